# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where lookup and inventory find the connection options beside their own arguments.

Only what differs from `zoo.deploy.zookeeper` is here: Ansible merges the keys of an option that two fragments name, so
a plugin extends both.
"""

from __future__ import annotations


class ModuleDocFragment:
    """`zoo.deploy.zookeeper_plugin`."""

    DOCUMENTATION = r"""
options:
  hosts:
    env:
      - name: ZK_HOSTS
    vars:
      - name: zk_hosts
  connect_timeout:
    vars:
      - name: zk_connect_timeout
  digest_username:
    vars:
      - name: zk_digest_username
  digest_password:
    vars:
      - name: zk_digest_password
  sasl_mechanism:
    vars:
      - name: zk_sasl_mechanism
  sasl_username:
    vars:
      - name: zk_sasl_username
  sasl_password:
    vars:
      - name: zk_sasl_password
  sasl_service:
    vars:
      - name: zk_sasl_service
  sasl_principal:
    vars:
      - name: zk_sasl_principal
  tls:
    vars:
      - name: zk_tls
  tls_ca:
    vars:
      - name: zk_tls_ca
  tls_cert:
    vars:
      - name: zk_tls_cert
  tls_key:
    vars:
      - name: zk_tls_key
  tls_key_password:
    vars:
      - name: zk_tls_key_password
  tls_verify:
    vars:
      - name: zk_tls_verify
  tls_check_hostname:
    vars:
      - name: zk_tls_check_hostname
"""
