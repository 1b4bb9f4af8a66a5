"""Published test vectors through the HTTP API: keys come in by import, and nothing else is reached into.

`files` reads the formats, `cases` says what each vector asks of the API or why it cannot be asked, and
`runner` sends it. `python -m tests.vectors` (scripts/vectors) runs all of them and prints the counts; the
test run takes a sample of the long files.
"""
