"""A private OpenLDAP server (Debian's slapd): people, groups, nested groups, TLS and StartTLS."""

# mypy: allow-untyped-calls
# The stubs of ldap3 type half of its calls.

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ldap3 import Connection, Server

from tests.harness import processes
from tests.harness.issuer import loopback_certificate

BASE = "dc=example,dc=test"
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "admin-password"
SEARCHER = f"cn=searcher,{BASE}"

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.2 NAME 'upnPerson' SUP top AUXILIARY MAY userPrincipalName )
include /etc/ldap/schema/dyngroup.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload dynlist
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/issuer.pem
TLSCertificateKeyFile {folder}/issuer.key
sizelimit 500
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw {password}
directory {folder}/db
overlay dynlist
dynlist-attrset groupOfURLs memberURL member+memberOf@groupOfNames*
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=hidden,{base}" by * none
access to * by * read
"""

DATA = f"""
dn: {BASE}
objectClass: organization
objectClass: dcObject
dc: example
o: Example

dn: {SEARCHER}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: searcher
userPassword: searcher-password

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: ou=other,{BASE}
objectClass: organizationalUnit
ou: other

dn: ou=elsewhere,{BASE}
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://127.0.0.1:1/ou=elsewhere,dc=example,dc=test
"""


def _person(uid: str, password: str, branch: str = PEOPLE) -> str:
    return (
        f"\ndn: uid={uid.replace(',', chr(92) + ',')},{branch}\nobjectClass: inetOrgPerson\nobjectClass: upnPerson\nuid: {uid}\n"
        f"cn: {uid.title()}\nsn: {uid}\nuserPrincipalName: {uid}@corp.test\nuserPassword: {password}\n"
    )


def _group(name: str, *members: str) -> str:
    lines = "".join(f"member: {member}\n" for member in members)
    return f"\ndn: cn={name},{GROUPS}\nobjectClass: groupOfNames\ncn: {name}\n{lines}"


class Slapd:
    """Serves until `stop`. ann is in Devs, which is in Staff; bob in Ops by memberUid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = loopback_certificate(folder)
        self.port, self.tls_port = processes.free_port(), processes.free_port()
        self.url, self.tls_url = f"ldap://127.0.0.1:{self.port}", f"ldaps://127.0.0.1:{self.tls_port}"
        (folder / "db").mkdir()
        configuration = folder / "slapd.conf"
        configuration.write_text(
            CONFIGURATION.format(folder=folder, base=BASE, admin=ADMIN, password=ADMIN_PASSWORD)
        )
        people = [("ann", "ann-password"), ("bob", "bob-password"), ("o'neil (x)", "odd"), ("a,b", "comma")]
        data = DATA + "".join(_person(*each) for each in people)
        data += _person("twin", "one") + _person("twin", "two", f"ou=other,{BASE}")
        data += _group("Devs", f"uid=ann,{PEOPLE}") + _group("Staff", f"cn=Devs,{GROUPS}")
        data += f"\ndn: cn=Ops,{GROUPS}\nobjectClass: posixGroup\ncn: Ops\ngidNumber: 1\nmemberUid: bob\n"
        ldif = folder / "data.ldif"
        ldif.write_text(data)
        add = [processes.program("slapadd"), "-f", str(configuration), "-l", str(ldif)]
        done = subprocess.run(add, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        command = [processes.program("slapd"), "-f", str(configuration), "-h", f"{self.url} {self.tls_url}"]
        with (folder / "slapd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-d", "0"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        processes.wait_for(self._up, 30, "slapd")

    def _up(self) -> bool:
        assert self._process.poll() is None, (self.folder / "slapd.log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @contextmanager
    def admin(self) -> Iterator[Connection]:
        """A connection that may change everything."""
        connection = Connection(Server(self.url), ADMIN, ADMIN_PASSWORD, auto_bind=True)
        try:
            yield connection
        finally:
            connection.unbind()

    def stop(self) -> None:
        """No more answers."""
        self._process.terminate()
        self._process.wait(20)
