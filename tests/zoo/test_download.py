"""Downloads from a local server that cuts, stalls, lies about the length and serves HTML in place of data."""

import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from zoo import load_dataset
from zoo.cli.main import main
from zoo.datasets import download
from zoo.datasets.checks import DatasetNotFoundError, DatasetValueError
from zoo.datasets.download import Remote, fetch, remotes
from zoo.datasets.readers import d4rl

ROWS = 3_000


def hdf5_bytes(rows: int = ROWS) -> bytes:
    rng, file = np.random.default_rng(0), io.BytesIO()
    with h5py.File(file, "w") as out:
        out["observations"] = rng.normal(size=(rows, 4)).astype(np.float32)
        out["actions"] = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
        out["rewards"] = np.zeros(rows, np.float32)
        out["terminals"], out["timeouts"] = np.zeros(rows, bool), np.arange(rows) % 100 == 99
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one file; `how` says what goes wrong, `asked` has the Range of every request."""

    daemon_threads = True

    def __init__(self):
        self.how, self.content, self.asked, self.tag = "well", hdf5_bytes(), [], '"one"'
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, content = self.server, self.server.content
        asked = self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.how != "no ranges" else 0
        if asked and self.headers.get("If-Range") not in (None, server.tag):
            start = 0
        if server.how == "gone":
            self.send_error(404)
            return
        if server.how == "html":
            content = b"<!DOCTYPE html><html>Please log in.</html>"
        self.send_response(206 if start else 200)
        self.send_header("ETag", server.tag)
        length = len(content) - start
        if server.how == "states too much":
            length += 1_000
        if server.how == "states too little":
            length -= 1_000
        if server.how != "no length":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        end = len(content)
        if server.how in ("cuts", "no ranges") and len(server.asked) < 3:
            end = start + (end - start) // 2
        if server.how == "stalls" and len(server.asked) == 1:
            self.wfile.write(content[: end // 3])
            self.wfile.flush()
            server.released.wait(10)
            return
        self.wfile.write(content[start:end])


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def remote(server, tmp_path):
    return Remote("toy-v0", f"{server.url}/toy.hdf5", tmp_path / "toy.hdf5", ROWS)


def quick(remote: Remote):
    return fetch(remote, stall=0.3, wait=0.0)


def only_the_file(remote: Remote) -> bool:
    return sorted(path.name for path in remote.path.parent.iterdir()) == ["toy.hdf5", "toy.hdf5.sha256"]


def test_a_file_comes_whole_with_its_hash(server, remote):
    seen = []
    assert fetch(remote, lambda have, total: seen.append((have, total))) == remote.path
    assert remote.path.read_bytes() == server.content
    digest = hashlib.sha256(server.content).hexdigest()
    assert remote.path.with_name("toy.hdf5.sha256").read_text() == f"{digest}  toy.hdf5\n"
    assert seen[-1] == (len(server.content), len(server.content))
    assert only_the_file(remote)


@pytest.mark.parametrize("how", ["cuts", "stalls", "no ranges", "no length"])
def test_it_comes_whole_through_a_bad_line(server, remote, how):
    server.how = how
    quick(remote)
    assert remote.path.read_bytes() == server.content
    assert only_the_file(remote)
    if how in ("cuts", "stalls"):
        assert [asked is None for asked in server.asked][:2] == [True, False]  # the rest, not all of it again


def test_an_interrupted_download_goes_on_where_it_stopped(server, remote):
    def stop(have, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote, stop)
    part = remote.path.with_name("toy.hdf5.part")
    part.write_bytes(server.content[:1_000])
    assert not remote.path.exists()
    quick(remote)
    assert server.asked == [None, "bytes=1000-"]
    assert remote.path.read_bytes() == server.content


def test_a_file_that_changed_meanwhile_is_taken_anew(server, remote):
    quick(remote)
    old = server.content
    remote.path.unlink()
    part = remote.path.with_name("toy.hdf5.part")
    part.write_bytes(old[:1_000])
    part.with_name("toy.hdf5.part.json").write_text(f'{{"url": "{remote.url}", "tag": "\\"old\\""}}')
    quick(remote)
    assert remote.path.read_bytes() == server.content


def test_a_server_that_states_too_much_is_given_up_and_the_file_is_not_kept(server, remote):
    server.how = "states too much"
    with pytest.raises(ConnectionError, match="gave nothing 5 times"):
        quick(remote)
    assert not remote.path.exists()


def test_a_server_that_states_too_little_gives_a_damaged_file(server, remote):
    server.how = "states too little"
    with pytest.raises(DatasetValueError, match="gave a damaged file"):
        quick(remote)
    assert list(remote.path.parent.iterdir()) == []


def test_a_web_page_is_no_dataset(server, remote):
    server.how = "html"
    with pytest.raises(DatasetValueError, match=r"gave a web page in place of toy.hdf5.*--mirror"):
        quick(remote)
    assert list(remote.path.parent.iterdir()) == []


def test_a_file_that_is_not_there_is_said_at_once(server, remote):
    server.how = "gone"
    with pytest.raises(DatasetNotFoundError, match="is not there"):
        quick(remote)
    assert len(server.asked) == 1


def test_another_number_of_rows_than_the_catalogues_is_refused(server, remote):
    server.content = hdf5_bytes(200)
    with pytest.raises(DatasetValueError, match="gave 200 rows, toy-v0 has 3,000"):
        quick(remote)
    assert list(remote.path.parent.iterdir()) == []


def test_nothing_listens(tmp_path):
    with pytest.raises(ConnectionError, match="gave nothing 5 times"):
        quick(Remote("toy-v0", "http://127.0.0.1:9/toy.hdf5", tmp_path / "toy.hdf5"))


def test_names_patterns_and_mirrors_find_their_files(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    found = remotes(("antmaze-ultra-*", "antmaze-giant-navigate-singletask-v0"), "https://mine.org/files/")
    assert [(remote.name, remote.url) for remote in found] == [
        (f"antmaze-ultra-{kind}-v0",
         f"https://mine.org/files/Ant_maze_ultra_noisy_multistart_True_multigoal_{goals}_sparse.hdf5")
        for kind, goals in (("play", False), ("diverse", True))
    ] + [("antmaze-giant-navigate-singletask-v0", "https://mine.org/files/antmaze-giant-navigate-v0.npz")]  # fmt: skip
    assert remotes(("hopper-medium-v2",))[0].url == d4rl.CATALOG["hopper-medium-v2"].url
    assert len(remotes(("*",))) == len(d4rl.CATALOG)
    with pytest.raises(DatasetNotFoundError, match="no catalogue has 'hoper'"):
        remotes(("hoper",))


def test_every_row_count_is_of_a_dataset_that_there_is():
    assert download.ROWS.keys() <= d4rl.CATALOG.keys()


def test_a_downloaded_dataset_is_loaded_and_its_change_is_noticed(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["zoo", "data", "download", "pen-cloned-v1", "--mirror", server.url])
    main()
    path = tmp_path / d4rl.CATALOG["pen-cloned-v1"].file_name
    assert f"{path} is there and whole" in capsys.readouterr().out
    assert len(load_dataset("pen-cloned-v1")) == ROWS - 1 - 29  # parity
    with h5py.File(path, "a") as file:
        file["rewards"][0] = 7.0
    with pytest.raises(DatasetValueError, match="has changed since it was downloaded"):
        load_dataset("pen-cloned-v1")


def test_loading_downloads_only_when_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, file in d4rl.CATALOG.items():
        url = f"{server.url}/{file.file_name}"
        monkeypatch.setitem(d4rl.CATALOG, name, d4rl.D4RLFile(name, file.family, url, file.env_id))
    with pytest.raises(DatasetNotFoundError, match="zoo data download door-cloned-v1"):
        load_dataset("door-cloned-v1")
    assert server.asked == []
    assert len(load_dataset("door-cloned-v1", download=True)) == ROWS - 1 - 29
    load_dataset("door-cloned-v1", download=True)
    assert len(server.asked) == 1


def test_minari_is_fetched_by_its_own_library(monkeypatch, tmp_path):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def fake(name):  # what minari.download_dataset leaves behind
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "metadata.json").write_text("{}")

    monkeypatch.setattr(minari, "download_dataset", fake)
    assert list(download.download(("toy/line-v0",))) == [tmp_path / "toy/line-v0" / "data"]
