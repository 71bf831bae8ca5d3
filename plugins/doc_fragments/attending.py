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
      - What is asked, one after the other, before each next step of a rollout is opened, and before O(state=promoted)
        is carried out. Commands and requests run on the controller.
      - Where all pass, the rollout goes on. Where one fails, it is halted. Where one is inconclusive, it is paused
        until a person promotes it. The reason has the gate's name, and the first line of what it said.
      - With O(state=published), each step of O(rollout), or of the policy, gets C(gate=true) but the last, unless a
        step has it already. Such a step is paused after its soak until its gates were asked, also where this task has
        ended meanwhile. With C(unattended=true) in O(rollout), no step waits; the gates are asked while a step soaks,
        and only one that fails stops the rollout.
      - With O(state=promoted), they are asked at the steps after that too where the release was published with gates.
        Where it was not, these open without them, and the module warns of it.
      - The answer for one step never opens another, nor what a person has paused or halted meanwhile.
      - In check mode no gate is asked. A list in JSON is taken too.
    type: list
    elements: dict
    version_added: 0.1.0
    suboptions:
      name:
        description: What it is called in messages.
        type: str
        required: true
      command:
        description:
          - A command, a text or a list of its words; no shell is used. It has to end within O(gates[].timeout).
          - Its exit status 0 passes, 1 fails; any other is inconclusive, and so is a command that can't be started.
          - It gets what O(notify) gets.
        type: raw
      environment:
        description: Variables for the command. Their values are kept out of what is told of its output.
        type: dict
      url:
        description:
          - What is asked for with GET, instead of a command. A redirect is not followed, but is the answer.
          - An answer as expected passes, any other fails, none within O(gates[].timeout) is inconclusive. It is never
            shown.
        type: str
      headers:
        description:
          - Headers of the request, such as C(Authorization) or C(Cookie). They are never shown, nor are their words,
            the values that these give, and the login in one that says C(Basic).
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
        description: File with the certificates that sign the server's, in PEM form, where it is not the system's.
        type: path
      client_cert:
        description: File with a client's certificate, in PEM form.
        type: path
      client_key:
        description: File with its private key, where O(gates[].client_cert) does not have it.
        type: path
      status_code:
        description: The statuses that are expected.
        type: list
        elements: int
        default: [200]
      matches:
        description: A regular expression that the body has to have somewhere.
        type: str
      json:
        description:
          - What a value in the answer, which is JSON then, has to be.
          - An answer that does not have it, by its status, its form or for lack of data, is inconclusive.
        type: dict
        suboptions:
          path:
            description: Its keys and, in lists, its places from 0, with dots between them, or as a list.
            type: raw
            required: true
          equals:
            description: The value itself.
            type: raw
          at_least:
            description: The least number; a text with a number is one too, any other value is inconclusive.
            type: float
          at_most:
            description: The greatest number.
            type: float
      timeout:
        description: Seconds that it may take, up to 3600.
        type: float
        default: 30
  notify:
    description:
      - A command that is run on the controller for each change of the rollout's phase or step that this task sees, once
        each; a text, a list of its words, or an object with C(command), C(environment) and C(timeout) (30 seconds). No
        shell is used.
      - On its standard input it gets the event, a JSON object with C(app), C(generation), C(commit_id), and of
        RV(rollout) C(phase), C(step), C(steps), C(says), C(reason), C(by), C(since), C(from), C(fleet) and C(counts).
        In its environment are C(ZOO_APP), C(ZOO_GENERATION), C(ZOO_COMMIT), C(ZOO_PHASE), C(ZOO_STEP), C(ZOO_STEPS),
        C(ZOO_SAYS), C(ZOO_REASON), C(ZOO_BY) and C(ZOO_FROM), each in one line.
      - Where it fails, that is a warning.
    type: raw
    version_added: 0.1.0
"""
