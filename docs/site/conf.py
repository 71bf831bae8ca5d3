"""Sphinx's settings for the documentation site, which `build.py` beside this file builds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "zoo.deploy"
project_copyright = "the contributors to zoo.deploy"
root_doc = "index"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
html_theme = "furo"
html_title = "zoo.deploy"
html_show_sphinx = False
# The anchors of headings are those that a forge makes.
myst_heading_anchors = 6

ANSIBLE = "https://docs.ansible.com/ansible/latest/"
PLUGIN = re.compile(r"ansible_collections\.(?P<collection>\w+\.\w+)\.(?P<page>\w+)")
LABELS = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}


def setup(app: Sphinx) -> None:
    """Add what the pages need beyond the extensions."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("missing-reference", resolve_in_ansible)


def resolve_in_ansible(
    _app: Sphinx, _env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.reference | None:
    """A link into Ansible's own documentation for a label or variable of its; None where it is no such."""
    target = node["reftarget"]
    plugin = PLUGIN.fullmatch(target)
    if node.get("reftype") == "envvar" and target.startswith("ANSIBLE_"):
        place = f"reference_appendices/config.html#envvar-{target}"
    elif plugin and plugin["collection"] != "zoo.deploy":
        place = f"collections/{plugin['collection'].replace('.', '/')}/{plugin['page']}.html"
    elif target in LABELS:
        place = LABELS[target]
    else:
        return None
    return nodes.reference("", "", text, internal=False, refuri=ANSIBLE + place)
