"""Make an archive laid out like Apache's from Debian's packages: `archive.py DEST.tar.gz`, with `tests` on PYTHONPATH.

Apache's own would need the Internet. It has another logger (logback), which this does not test.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from hosts.lab.tree import tree

PACKAGES = ("libzookeeper-java", "libnetty-java", "libslf4j-java", "libdropwizard-metrics-java", "libsnappy-java")
JARS = (
    "zookeeper-[0-9]*",
    "zookeeper-jute-*",
    "netty-*-[0-9]*",
    "slf4j-api-*",
    "slf4j-simple-*",
    "metrics-core-*",
    "snappy-*",
)


def main() -> None:
    """Write the archive: a directory of the archive's name with the jars in `lib`."""
    archive = Path(sys.argv[1])
    offered = tree("trixie") / "srv" / "apt"
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        for package in PACKAGES:
            (deb,) = offered.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "--extract", str(deb), directory], check=True)
        with tarfile.open(archive, "w:gz", compresslevel=1, dereference=True) as made:
            for jar in sorted(
                {jar for name in JARS for jar in (Path(directory) / "usr/share/java").glob(f"{name}.jar")}
            ):
                made.add(jar, f"{archive.name.removesuffix('.tar.gz')}/lib/{jar.name}")


if __name__ == "__main__":
    main()
