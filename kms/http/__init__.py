"""The doors: each parses one dialect into a `Call`, and renders a `Result` back.

A door holds no rule of its own: no authentication, no policy, no audit, no service call. Only this
package and pki.http may import a web framework.
"""
