#!/usr/bin/env bash
# The least that deploys, the yardstick of P7: bash shell_deploy.sh URL COMMIT HOST ...
#
# HOST is a directory with a bare repository in `store`. In all of them at once, the commit is fetched and checked out, and
# the symlink `site` swapped. Nothing is proved, nothing cleaned up, and only git makes durable what it writes.
set -euo pipefail
url=$1 commit=$2
shift 2

deploy() {
    cd "$1"
    git --git-dir=store fetch --quiet --no-tags --depth=1 "$url" "+$commit:refs/kept/$commit"
    mkdir -p "releases/$commit"
    GIT_INDEX_FILE="releases/$commit.index" git --git-dir=store --work-tree="releases/$commit" read-tree --reset -u "$commit"
    ln -s "releases/$commit" site.new
    mv -T site.new site
}

running=()
for host; do
    deploy "$host" &
    running+=($!)
done
for one in "${running[@]}"; do
    wait "$one"
done
