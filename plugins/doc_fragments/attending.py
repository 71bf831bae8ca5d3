# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller does while it attends a rollout."""

from __future__ import annotations


class ModuleDocFragment:
    """`zoo.deploy.attending`."""

    DOCUMENTATION = r"""
options:
  gates:
    description:
      - Checks that are made, one after the other, before each next step of a rollout is opened, and before
        O(state=promoted) is carried out. Commands and requests run on the controller.
      - If all pass, the rollout continues. If one fails, the rollout is halted. If one is inconclusive, the rollout is
        paused until a person promotes it. The reason contains the gate's name and the first line of its output.
      - With O(state=published), the steps of O(rollout) or of the policy that have C(gate=true) wait for the gates. If
        none has it, each step except the last gets it. Such a step is paused after its soak until its gates have been
        checked, even if this task has ended in the meantime. With C(unattended=true) in O(rollout), no step waits. The
        gates are checked while a step soaks, and only one that fails stops the rollout.
      - With O(state=promoted), they are also checked at the later steps if the release was published with gates. If
        not, these steps open without them, and the module warns about it.
      - The result for one step never opens another step, or one that a person has paused or halted in the meantime.
      - In check mode, no gate is checked. A list in JSON is accepted too.
    type: list
    elements: dict
    version_added: 0.1.0
    suboptions:
      name:
        description: The gate's name in messages.
        type: str
        required: true
      command:
        description:
          - A command, a string or a list of words; no shell is used. It has to finish within O(gates[].timeout).
          - Exit status 0 passes, 1 fails. Any other is inconclusive, and so is a command that can't be started.
          - Its input and environment are those of O(notify).
        type: raw
      environment:
        description: Environment variables for the command. Their values are removed from the output that is shown.
        type: dict
      url:
        description:
          - The URL of a GET request, instead of a command. Redirects are not followed; the redirect itself is the
            answer.
          - An answer as expected passes, any other fails, and no answer within O(gates[].timeout) is inconclusive. The
            answer is never shown.
        type: str
      headers:
        description:
          - Headers of the request, such as C(Authorization) or C(Cookie). They are never shown, and neither are parts
            of them, such as a single word, the value of a cookie, or the login in C(Basic).
        type: dict
      url_username:
        description: User for basic authentication.
        type: str
      url_password:
        description: Password for basic authentication.
        type: str
      validate_certs:
        description: Whether the server's certificate is verified.
        type: bool
        default: true
      ca_path:
        description: File with the certificates that sign the server's, in PEM form. Defaults to the system's.
        type: path
      client_cert:
        description: File with a client certificate, in PEM form.
        type: path
      client_key:
        description: File with its private key, if O(gates[].client_cert) does not contain it.
        type: path
      status_code:
        description: The expected statuses.
        type: list
        elements: int
        default: [200]
      matches:
        description: A regular expression that must match somewhere in the body.
        type: str
      json:
        description:
          - A condition for a value in the answer, which must be JSON.
          - If the value can't be read, because of the answer's status, its form or missing data, the gate is
            inconclusive.
        type: dict
        suboptions:
          path:
            description:
              - The keys and, in lists, the positions from 0 that lead to the value, separated by dots or as a list.
            type: raw
            required: true
          equals:
            description: The exact value.
            type: raw
          at_least:
            description:
              - The smallest allowed number. A string that contains a number is accepted too; any other value is
                inconclusive.
            type: float
          at_most:
            description: The largest allowed number.
            type: float
      timeout:
        description: How many seconds the gate may take, up to 3600.
        type: float
        default: 30
  notify:
    description:
      - A command that runs on the controller, once for each change of the rollout's phase or step that this task sees.
        A string, a list of words, or an object with C(command), C(environment) and C(timeout) (30 seconds). No shell is
        used.
      - Its standard input is the event, a JSON object with C(app), C(generation), C(commit_id), and from RV(rollout)
        C(phase), C(step), C(steps), C(says), C(reason), C(by), C(since), C(from), C(fleet) and C(counts). Its
        environment has C(ZOO_APP), C(ZOO_GENERATION), C(ZOO_COMMIT), C(ZOO_PHASE), C(ZOO_STEP), C(ZOO_STEPS),
        C(ZOO_SAYS), C(ZOO_REASON), C(ZOO_BY) and C(ZOO_FROM), each on one line.
      - If it fails, there is a warning.
    type: raw
    version_added: 0.1.0
"""
