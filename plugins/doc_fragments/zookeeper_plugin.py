# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where lookup and inventory find the connection options, other than in their own arguments.

Only what differs from `zoo.deploy.zookeeper` is here: Ansible merges the keys of an option that two fragments name, so
a plugin extends both, this one first: if both have a key, the first value counts. Booleans are `raw`, because Ansible
would take all but a few words for false, and so are paths, which may be templates or empty; `plugin_utils.own_options`
is strict.
"""

from __future__ import annotations


class ModuleDocFragment:
    """`zoo.deploy.zookeeper_plugin`."""

    DOCUMENTATION = r"""
notes:
  - A relative path in an option, such as O(tls_ca), is relative to the current directory.
options:
  hosts:
    env:
      - name: ZK_HOSTS
    vars:
      - name: zk_hosts
  connect_timeout:
    env:
      - name: ZK_CONNECT_TIMEOUT
    vars:
      - name: zk_connect_timeout
  digest_username:
    env:
      - name: ZK_DIGEST_USERNAME
    vars:
      - name: zk_digest_username
  digest_password:
    env:
      - name: ZK_DIGEST_PASSWORD
    vars:
      - name: zk_digest_password
  sasl_mechanism:
    env:
      - name: ZK_SASL_MECHANISM
    vars:
      - name: zk_sasl_mechanism
  sasl_username:
    env:
      - name: ZK_SASL_USERNAME
    vars:
      - name: zk_sasl_username
  sasl_password:
    env:
      - name: ZK_SASL_PASSWORD
    vars:
      - name: zk_sasl_password
  sasl_service:
    env:
      - name: ZK_SASL_SERVICE
    vars:
      - name: zk_sasl_service
  sasl_principal:
    env:
      - name: ZK_SASL_PRINCIPAL
    vars:
      - name: zk_sasl_principal
  tls:
    type: raw
    env:
      - name: ZK_TLS
    vars:
      - name: zk_tls
  tls_ca:
    type: raw
    env:
      - name: ZK_TLS_CA
    vars:
      - name: zk_tls_ca
  tls_cert:
    type: raw
    env:
      - name: ZK_TLS_CERT
    vars:
      - name: zk_tls_cert
  tls_key:
    type: raw
    env:
      - name: ZK_TLS_KEY
    vars:
      - name: zk_tls_key
  tls_key_password:
    env:
      - name: ZK_TLS_KEY_PASSWORD
    vars:
      - name: zk_tls_key_password
  tls_verify:
    type: raw
    env:
      - name: ZK_TLS_VERIFY
    vars:
      - name: zk_tls_verify
  tls_check_hostname:
    type: raw
    env:
      - name: ZK_TLS_CHECK_HOSTNAME
    vars:
      - name: zk_tls_check_hostname
"""
