"""A Hub on loopback: what huggingface_hub, transformers and datasets ask of it, kept in memory, with faults on demand.

It speaks the endpoints of models and data sets: whoami, create, validate-yaml, preupload, LFS, commit, branch, info,
tree, paths-info and resolve. It holds what it is told to the way the Hub does: a stale parent is refused with 412, a
hash that is not the content's with 400, a token without the right with 403.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

CANARY = "hf_" + "CanaryThatIsFoundNowhere" + "0123456789"  # a token, and no text that looks like one
LFS = re.compile(r".*\.(safetensors|skops|parquet|png|gif|model|bin)")
LICENSES = {"apache-2.0", "mit", "cc-by-4.0", "other"}


@dataclass
class Blob:
    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """As git names it; of a large file, its pointer."""
        kept = self.content
        if self.lfs:
            kept = f"version https://git-lfs\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        return hashlib.sha1(b"blob %d\0%s" % (len(kept), kept)).hexdigest()


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repo:
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        if revision in self.branches:
            return self.branches[revision][-1]
        commits = [commit for branch in self.branches.values() for commit in branch]
        return next((commit for commit in commits if commit.oid == revision), None)


@dataclass
class User:
    name: str
    role: str = "write"  # of the token: read, write or fineGrained
    orgs: dict[str, str] = field(default_factory=dict)  # the role in each
    scoped: list[dict[str, Any]] = field(default_factory=list)  # what a fine-grained token may

    def may_write(self, namespace: str) -> bool:
        if self.role == "fineGrained":
            named = [one["permissions"] for one in self.scoped if one["entity"]["name"] == namespace]
            return any("repo.write" in permissions for permissions in named)
        return self.role == "write" and (
            namespace == self.name or self.orgs.get(namespace) in ("write", "admin", "contributor")
        )


@dataclass
class Fault:
    """What happens to the requests that match, so many times."""

    path: str
    status: int = 0  # answered in place of the work; 0: none
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    times: int = 1
    seconds: float = 0  # waited before anything else
    cut: str = ""  # the connection ends `before` the work, or `after` it: the answer is lost
    hook: Callable[[], None] | None = None


class Hub:
    """The state, and what tests look at."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.uploads: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []  # "METHOD /path"
        self.received = b""  # all bodies
        self.lock = threading.RLock()
        self.endpoint = ""
        self.count = 0
        self.ignored = "(?!)"  # names that a .gitignore keeps out
        self.page = 1000  # entries of a tree that are listed at once

    def create(self, id_: str, *, kind: str = "models", private: bool = True, files: Any = ()) -> Repo:
        repo = self.repos[kind, id_] = Repo(private, {"main": []})
        self.commit(repo, "main", "initial commit", {".gitattributes": Blob(b"*.safetensors lfs\n", False)})
        if files:
            self.commit(repo, "main", "files", {name: Blob(content, False) for name, content in dict(files).items()})
        return repo

    def commit(self, repo: Repo, branch: str, message: str, changed: dict[str, Blob | None]) -> Commit:
        with self.lock:
            self.count += 1
            commits = repo.branches.setdefault(branch, [])
            files = {**(commits[-1].files if commits else {}), **changed}
            kept = {name: blob for name, blob in files.items() if blob is not None}
            commit = Commit(hashlib.sha1(str(self.count).encode()).hexdigest(), message, kept)
            commits.append(commit)
            return commit

    def files(self, id_: str, *, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
        commit = self.repos[kind, id_].at(revision)
        assert commit is not None
        return {name: blob.content for name, blob in commit.files.items() if name != ".gitattributes"}

    def commits(self, id_: str, *, kind: str = "models", revision: str = "main") -> list[Commit]:
        return self.repos[kind, id_].branches[revision][1:]  # the first one is the Hub's own

    def asked(self, pattern: str) -> int:
        """How many requests match."""
        return sum(bool(re.search(pattern, line)) for line in self.requests)

    def fault(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, line):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub that listens until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str = "", message: str = "", body: Any = None, commit: str = "") -> None:
        self.status, self.code, self.message, self.body, self.commit = status, code, message, body, commit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._chunks()
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        line = f"{self.command} {unquote(parts.path)}"
        with self.hub.lock:
            self.hub.requests.append(line)
            self.hub.received += self.body
        fault = self.hub.fault(line)
        if fault is not None:
            threading.Event().wait(fault.seconds)  # a test may have replaced time.sleep
            if fault.hook is not None:
                fault.hook()
            if fault.cut == "before":
                return self._cut()
            if fault.status:
                return self._answer(fault.status, fault.body or {"error": "so the test wants it"}, fault.headers)
        try:
            status, content, headers = self._route(parts.path)
        except Refused as refused:
            told = {"X-Error-Code": refused.code, "X-Error-Message": refused.message, "X-Repo-Commit": refused.commit}
            status, content = refused.status, refused.body or {"error": refused.message}
            headers = {name: value for name, value in told.items() if value}
        if fault is not None and fault.cut == "after":
            return self._cut()
        return self._answer(status, content, headers)

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _answer(self, status: int, content: Any, headers: dict[str, str]) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        length = headers.get("Content-Length", str(len(data)))
        for name, value in {"Content-Type": kind, **headers, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # whoever asked waits no more
                self.wfile.write(data)

    # -- who asks, and what they may

    def _user(self) -> User | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise Refused(401, message="Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def _repo(self, kind: str, id_: str) -> Repo:
        user, repo = self._user(), self.hub.repos.get((kind, id_))
        namespace = id_.split("/")[0]
        mine = user is not None and (namespace == user.name or namespace in user.orgs)
        if repo is None or (repo.private and not mine):
            raise Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        return repo

    def _writable(self, kind: str, id_: str) -> Repo:
        repo, user = self._repo(kind, id_), self._user()
        if user is None or not user.may_write(id_.split("/")[0]):
            raise Refused(403, message="You don't have the rights to write to this repo")
        return repo

    def _at(self, repo: Repo, revision: str) -> Commit:
        commit = repo.at(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _json(self) -> Any:
        return json.loads(self.body)

    # -- what is asked

    def _route(self, path: str) -> tuple[int, Any, dict[str, str]]:
        routes = (
            (r"GET /api/whoami-v2", self._whoami),
            (r"POST /api/repos/create", self._create),
            (r"POST /api/validate-yaml", self._validate),
            (r"(?:GET|HEAD) /api/(models|datasets)/([^/]+/[^/]+)/auth-check/write", self._check),
            (r"(?:GET|HEAD) /api/(models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?", self._info),
            (r"GET /api/(models|datasets)/([^/]+/[^/]+)/tree/([^/]+)(?:/(.+))?", self._tree),
            (r"POST /api/(models|datasets)/([^/]+/[^/]+)/paths-info/([^/]+)", self._paths),
            (r"POST /api/(models|datasets)/([^/]+/[^/]+)/branch/([^/]+)", self._branch),
            (r"POST /api/(models|datasets)/([^/]+/[^/]+)/preupload/([^/]+)", self._preupload),
            (r"POST /api/(models|datasets)/([^/]+/[^/]+)/commit/([^/]+)", self._commit),
            (r"POST /(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"PUT /upload/([0-9a-f]{64})", self._upload),
            (r"POST /verify/([0-9a-f]{64})", self._verify),
            (r"(?:GET|HEAD) /(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        )
        for pattern, answer in routes:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                given = answer(*[None if part is None else unquote(part) for part in found.groups()])
                return given if isinstance(given, tuple) else (200, given, {})
        raise Refused(404, message=f"no such place: {self.command} {path}")

    def _whoami(self) -> Any:
        user = self._user()
        if user is None:
            raise Refused(401, message="Invalid username or password.")
        token: dict[str, Any] = {"displayName": "a token", "role": user.role}
        if user.role == "fineGrained":
            token["fineGrained"] = {"global": [], "scoped": user.scoped}
        orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in user.orgs.items()]
        return {"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": token}}

    def _create(self) -> Any:
        user, wanted = self._user(), self._json()
        if user is None:
            raise Refused(401, message="Invalid username or password.")
        namespace = wanted.get("organization") or user.name
        if not user.may_write(namespace):
            raise Refused(403, message=f"You don't have the rights to create a repo under the namespace {namespace}")
        kind, id_ = f"{wanted.get('type') or 'model'}s", f"{namespace}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{'' if kind == 'models' else 'datasets/'}{id_}"
        with self.hub.lock:
            if (kind, id_) in self.hub.repos:
                raise Refused(409, message="You already created this repo", body={"error": "exists", "url": url})
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.hub.create(id_, kind=kind, private=private)
        return {"url": url, "name": id_}

    def _validate(self) -> Any:
        block = re.match(r"---\n(.*?)\n---", self._json()["content"], re.DOTALL)
        found = yaml.safe_load(block[1]) if block else {}
        problems = []
        if found.get("license") not in LICENSES | {None}:
            problems.append('"license" must be one of [apache-2.0, mit, ...]')
        base = found.get("base_model")
        if base is not None and not all(
            re.fullmatch(r"[\w.-]+(/[\w.-]+)?", one) for one in ([base] if isinstance(base, str) else base)
        ):
            problems.append('"base_model" with value is not valid. Use a model id from https://hf.co/models.')
        if problems:
            body = {"errors": [{"message": text} for text in problems], "warnings": []}
            raise Refused(400, message="Invalid metadata", body=body)
        return {"errors": [], "warnings": []}

    def _check(self, kind: str, id_: str) -> Any:
        self._writable(kind, id_)
        return {}

    def _info(self, kind: str, id_: str, revision: str | None) -> Any:
        repo = self._repo(kind, id_)
        commit = self._at(repo, revision or "main")
        card = commit.files.get("README.md")
        block = re.match(r"---\n(.*?)\n---", card.content.decode(), re.DOTALL) if card else None
        return {
            "id": id_,
            "modelId": id_,
            "author": id_.split("/")[0],
            "sha": commit.oid,
            "private": repo.private,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "gated": False,
            "disabled": False,
            "cardData": yaml.safe_load(block[1]) if block else None,
            "siblings": [{"rfilename": name} for name in sorted(commit.files)],
        }

    def _entry(self, name: str, blob: Blob) -> dict[str, Any]:
        large = {"lfs": {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}}
        entry = {"type": "file", "path": name, "oid": blob.oid, "size": len(blob.content)}
        return {**entry, **(large if blob.lfs else {})}

    def _tree(self, kind: str, id_: str, revision: str, under: str | None) -> Any:
        files = self._at(self._repo(kind, id_), revision).files
        inside = f"{under}/" if under else ""
        found = {name[len(inside) :]: blob for name, blob in files.items() if name.startswith(inside)}
        if under and not found:
            raise Refused(404, "EntryNotFound", f"{under} does not exist")
        whole = self.query.get("recursive", ["false"])[0].lower() == "true"
        entries = [self._entry(inside + name, blob) for name, blob in found.items() if whole or "/" not in name]
        nested = sorted({inside + name.split("/")[0] for name in found if "/" in name})
        listed = [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in nested] + entries
        start = int(self.query.get("cursor", ["0"])[0])
        end = start + self.hub.page
        place = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive={whole}&cursor={end}"
        return 200, listed[start:end], {"Link": f'<{place}>; rel="next"'} if end < len(listed) else {}

    def _paths(self, kind: str, id_: str, revision: str) -> Any:
        files = self._at(self._repo(kind, id_), revision).files
        form = parse_qs(self.body.decode()) if b"paths=" in self.body else self._json()
        asked = form["paths"] if isinstance(form["paths"], list) else [form["paths"]]
        found = [self._entry(name, files[name]) for name in asked if name in files]
        folders = [name for name in asked if any(file.startswith(f"{name}/") for file in files)]
        return found + [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders]

    def _branch(self, kind: str, id_: str, branch: str) -> Any:
        repo = self._writable(kind, id_)
        if branch in repo.branches:
            raise Refused(409, message="Reference already exists")
        repo.branches[branch] = [repo.branches["main"][-1]]
        return {}

    def _preupload(self, kind: str, id_: str, revision: str) -> Any:
        repo = self._writable(kind, id_) if "create_pr" not in self.query else self._repo(kind, id_)
        files = self._at(repo, revision).files
        answers = []
        for one in self._json()["files"]:
            name = one["path"]
            mode = {
                "uploadMode": "lfs" if LFS.fullmatch(name) else "regular",
                "shouldIgnore": bool(re.fullmatch(self.hub.ignored, name)),
            }
            known = files.get(name)
            kept = {"oid": known.sha256 if known.lfs else known.oid} if known else {}
            answers.append({"path": name, **mode, **kept})
        return {"files": answers}

    def _batch(self, kind: str | None, id_: str) -> Any:
        self._repo("datasets" if kind else "models", id_)
        objects = []
        for one in self._json()["objects"]:
            oid, place = one["oid"], f"{self.hub.endpoint}/{{}}/{one['oid']}"
            actions = {"upload": {"href": place.format("upload")}, "verify": {"href": place.format("verify")}}
            objects.append({**one, **({} if oid in self.hub.uploads else {"actions": actions})})
        return {"transfer": "basic", "objects": objects}

    def _upload(self, oid: str) -> Any:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, message="the content is not what its hash says")
        self.hub.uploads[oid] = self.body
        return b""

    def _verify(self, oid: str) -> Any:
        if len(self.hub.uploads.get(oid, b"")) != self._json()["size"]:
            raise Refused(404, message="not uploaded")
        return {}

    def _commit(self, kind: str, id_: str, revision: str) -> Any:
        asks = "create_pr" in self.query
        repo = self._repo(kind, id_) if asks else self._writable(kind, id_)
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        with self.hub.lock:
            parent = self._at(repo, revision)
            if header.get("parentCommit") not in (None, parent.oid):
                raise Refused(412, message="A commit has happened since. Please refresh and try again.")
            changed: dict[str, Blob | None] = {}
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "file":
                    changed[value["path"]] = Blob(base64.b64decode(value["content"]), False)
                elif line["key"] == "lfsFile":
                    if value["oid"] not in self.hub.uploads:
                        raise Refused(400, message=f"LFS pointer to a missing file: {value['path']}")
                    changed[value["path"]] = Blob(self.hub.uploads[value["oid"]], True)
                elif line["key"] == "deletedFile":
                    if value["path"] not in parent.files:
                        raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
                    changed[value["path"]] = None
            if asks:
                revision = f"refs/pr/{sum(name.startswith('refs/pr/') for name in repo.branches) + 1}"
                repo.branches[revision] = [parent]
            made = self.hub.commit(repo, revision, header["summary"], changed)
        place = f"{self.hub.endpoint}/{'' if kind == 'models' else 'datasets/'}{id_}"
        told = {"success": True, "commitOid": made.oid, "commitUrl": f"{place}/commit/{made.oid}"}
        return {**told, **({"pullRequestUrl": f"{place}/discussions/{revision.split('/')[-1]}"} if asks else {})}

    def _resolve(self, kind: str | None, id_: str, revision: str, name: str) -> Any:
        commit = self._at(self._repo("datasets" if kind else "models", id_), revision)
        blob = commit.files.get(name)
        if blob is None:
            raise Refused(404, "EntryNotFound", f"{name} does not exist", commit=commit.oid)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, end = int(wanted[1]), int(wanted[2] or len(blob.content) - 1)
            part = blob.content[start : end + 1]
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(blob.content)}"
            return 206, part, headers
        return 200, blob.content, headers
