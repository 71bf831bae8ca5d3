# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# Prints the state of a repository: whether it is bare, where its hooks are, and, as one JSON object, who owns it and
# the state of both hooks. Arguments: the repository, the directory of its hooks, the mark of this role's own hooks, the
# program's configuration. `secret`: the configuration may have a password.
# `there`: the hook can be read; `ours`: this role has written it; `foreign`: neither that, nor does it run what is in
# NAME.d, as Gitea's does; `kept`: an earlier one is next to it; `directory`: NAME.d exists, `publishes`: our hook is in
# it, `others`: anything else is.
git --git-dir="$1" rev-parse --is-bare-repository --git-path hooks || exit

exists() {
    [ -e "$1" ] || [ -L "$1" ]
}

says() {
    if "$@" > /dev/null 2>&1; then printf true; else printf false; fi
}

finds() {
    grep -qsaE "$@"
}

reads() {
    finds '' "$1" || [ $? -eq 1 ]
}

has_secret() {
    exists "$1" && { finds 'password"' "$1" || ! reads "$1"; }
}

is_foreign() {
    finds -e "$mark" -e "^[[:space:]]*[^#[:space:]].*($name|[}])[.]d[\"/]" "$1"
    [ $? -eq 1 ]
}

has_others() {
    find "$1" -mindepth 1 -maxdepth 1 ! -name zoo-deploy | grep -q .
}

repository=$1 hooks=$2 mark=$3 config=$4
# shellcheck disable=SC2046 # its words: mode, links, owner, group
set -- $(ls -ldn "$repository")
printf '{"uid": %s, "gid": %s, "secret": %s' "$3" "$4" "$(says has_secret "$config")"
for name in post-receive pre-receive; do
    hook=$hooks/$name
    printf ', "%s": {' "$name"
    printf '"there": %s, ' "$(says reads "$hook")"
    printf '"ours": %s, ' "$(says finds -e "$mark" "$hook")"
    printf '"foreign": %s, ' "$(says is_foreign "$hook")"
    printf '"kept": %s, ' "$(says exists "$hook.before-zoo-deploy")"
    printf '"directory": %s, ' "$(says exists "$hook.d")"
    printf '"publishes": %s, ' "$(says exists "$hook.d/zoo-deploy")"
    printf '"others": %s}' "$(says has_others "$hook.d")"
done
printf '}\n'
