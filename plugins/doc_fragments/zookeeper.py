# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options, documented once for modules, lookup and inventory."""

from __future__ import annotations


class ModuleDocFragment:
    """`zoo.deploy.zookeeper`."""

    DOCUMENTATION = r"""
requirements:
  - kazoo >= 2.9 where the plugin runs, except for M(zoo.deploy.zk_ensemble_info)
  - kazoo >= 2.11 for O(tls_check_hostname), which is on by default with O(tls)
  - pure-sasl for O(sasl_mechanism), and the Python library C(kerberos) if that is V(GSSAPI)
notes:
  - A connection option that is not given is read from an environment variable where the plugin runs. Its name is C(ZK_)
    and the option in capitals, as in E(ZK_DIGEST_PASSWORD) or E(ZK_TLS_CA). An empty one counts as not set.
  - With V(GSSAPI), the Kerberos library finds the tickets by E(KRB5CCNAME), or gets them with the keys in
    E(KRB5_CLIENT_KTNAME).
options:
  hosts:
    description:
      - The members of the ensemble as V(host:port), in a list or a comma-separated string.
      - A chroot goes at the end, as in V(zk1:2181,zk2:2181/business), or after each member.
      - Every path is then below it.
      - Defaults to the environment variable E(ZK_HOSTS); one of the two is required.
    type: list
    elements: str
  connect_timeout:
    description:
      - How many seconds to wait for a session. After that, the ensemble is reported as unavailable.
      - It is also the requested session timeout. With TLS, it should be more than three times as long as a handshake
        with a busy member takes.
    type: float
    default: 10.0
  digest_username:
    description: User for the V(digest) scheme, together with O(digest_password).
    type: str
  digest_password:
    description: Password for the V(digest) scheme.
    type: str
  sasl_mechanism:
    description: Log in by SASL with this mechanism.
    type: str
    choices: [DIGEST-MD5, GSSAPI]
  sasl_username:
    description: User for V(DIGEST-MD5).
    type: str
  sasl_password:
    description: Password for V(DIGEST-MD5).
    type: str
  sasl_service:
    description: The service part of the servers' Kerberos principal.
    type: str
    default: zookeeper
  sasl_principal:
    description: The client's Kerberos principal, for V(GSSAPI).
    type: str
  tls:
    description:
      - Use TLS for the connection to the ensemble. Without it, the options that begin with C(tls_) are refused.
    type: bool
    default: false
  tls_ca:
    description: File with the certificates that sign the servers', in PEM form.
    type: path
  tls_cert:
    description: File with the client's certificate, in PEM form, and with its key if O(tls_key) is not given.
    type: path
  tls_key:
    description: File with the client's private key, in PEM form.
    type: path
  tls_key_password:
    description: Password of O(tls_key).
    type: str
  tls_verify:
    description: Whether the servers' certificates are verified.
    type: bool
    default: true
  tls_check_hostname:
    description: Whether a server's certificate must be for the host name in O(hosts).
    type: bool
    default: true
"""
