"""The programs of the article "分布式系统中zookeeper实现配置管理+集群管理", https://www.cnblogs.com/iforever/p/9095095.html.

They are quoted verbatim, except for placeholders where a reader has to insert values: the ensemble's hosts, the
repository, the commit and the relative path. Each runs in a process of its own, as in the article.
"""

# ruff: noqa: RUF001  # the article's comma

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENT = """\
from kazoo.client import KazooClient
import time
import json
import subprocess
import os


zk = KazooClient(hosts="@HOSTS@")

zk.start()

FILE_DIR = os.path.split(os.path.realpath(__file__))[0]

\'\'\'切换到指定文件夹，不存在的话创建并切换\'\'\'


def go_dir(dir_name):
    if os.path.exists(dir_name):
        pass
    else:
        os.makedirs(dir_name)
    os.chdir(dir_name)


\'\'\'从git获取代码\'\'\'


def handle_watch(data):
    try:
        info = json.loads(data)
        if not isinstance(info, dict):
            raise Exception("节点数据不是json穿")
        if not "relativePath" in info:
            raise Exception("节点json缺少[relativePath]字段")
        if not "url" in info:
            raise Exception("节点json缺少[url]字段")
        if not "commitId" in info:
            raise Exception("节点json缺少[commitId]字段")

        chdir = os.path.join(FILE_DIR, info["relativePath"])
        go_dir(chdir)

        print("开始执行git clone ...")
        res = subprocess.call(['git', 'status'])

        if 0 == res:
            res = subprocess.call(['git', 'pull'])
        else:
            res = subprocess.call(['git', 'clone', info["url"], '.'])

        if 0 != res:
            raise Exception("clone/pull代码失败")

        commitId = subprocess.check_output(["git", "rev-parse", "HEAD"])
        commitId = commitId.decode()
        commitId = commitId.strip()
        if commitId != info["commitId"]:
            raise Exception("正确版本Id[%s]，当前版本Id[%s]" % (commitId, info["commitId"]))

    except Exception as e:
        print(e)
        print("更新失败")
        return 1
    else:
        print("正确版本Id[%s]，当前版本Id[%s]" % (commitId, info["commitId"]))
        print("更新成功")
        return 0
    finally:
        pass


@zk.DataWatch("/app/business/config")
def watch_node(data, stat):
    if data:
        data = data.decode("utf-8")
        handle_watch(data)
    else:
        print("数据为空")


while True:
    time.sleep(100)
    print('tick')
"""

PUBLISHER = """\
from kazoo.client import KazooClient
import json
zk = KazooClient(hosts="@HOSTS@")
zk.start()
znode = {
  "url": "@URL@",
  "commitId": "@COMMIT@",
  "relativePath": "@PLACE@"
}
znode = json.dumps(znode)
znode = bytes(znode, encoding="utf-8")
zk.set("/app/business/config", znode);
"""

GET_SERVERS = """\
from kazoo.client import KazooClient
import json

def get_servers():
  zk = KazooClient(hosts="@HOSTS@")
  zk.start()
  ZNODE = "/service/business/what"
  children = zk.get_children(ZNODE)
  servers = []

  for child in children:
    child_znode = ZNODE + "/" + child
    child_server_info, stat = zk.get(child_znode)
    child_server_info = child_server_info.decode()
    child_server_info = json.loads(child_server_info)
    servers.append(child_server_info[0] + ":" + child_server_info[1])

  return servers
"""


def updated(commit_id: str) -> str:
    """The client's output when it has deployed a commit."""
    return f"正确版本Id[{commit_id}]，当前版本Id[{commit_id}]\n更新成功\n"


def _filled(text: str, **values: str) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name.upper()}@", value)
    return text


@contextmanager
def running_client(directory: Path, hosts: str) -> Iterator[Path]:
    """Run `client.py` in a server's directory inside the block; yields the file with its output."""
    directory.mkdir(parents=True)
    program, log = directory / "client.py", directory / "client.log"
    program.write_text(_filled(CLIENT, hosts=hosts), encoding="utf-8")
    with log.open("wb") as output:
        client = subprocess.Popen([sys.executable, "-X", "utf8", "-u", str(program)], stdout=output, stderr=output)
    try:
        yield log
    finally:
        client.kill()
        client.wait()


def publish(hosts: str, url: str, commit_id: str, place: str) -> None:
    """Run the publisher."""
    _python(_filled(PUBLISHER, hosts=hosts, url=url, commit=commit_id, place=place))


def get_servers(hosts: str) -> list[str]:
    """The result of `get_servers()`: `address:port` of each registration."""
    answer = _python(_filled(GET_SERVERS, hosts=hosts) + "\nprint(json.dumps(get_servers()))\n")
    return list(json.loads(answer))


def _python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8", timeout=60
    )
    return done.stdout
