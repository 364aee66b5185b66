"""Every path of a workspace: put together here, taken apart here, and nowhere else.

    nights/NIGHT/{documents,removed,passages,notes,minhash,bands,texts,windows}/PART
    nights/NIGHT/{shards/SPLIT/SHARD,work/STEP/,index/,index/merged/}
    models/MODEL/, models/MODEL/{evaluations/NIGHT/,evaluations/NIGHT/gate/,memory/NIGHT/}
    tuned/MODEL/, pairs/SET/{train,validation,test,removed}/PART, reports/NIGHT/, forgotten/, repair/

A folder that is published has a `manifest.json`, written last. Paths are relative to the workspace, with `/`.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple

MANIFEST = "manifest.json"
NIGHTS_INDEX = "nights/index.json"
CHAMPION = "models/champion.json"
TUNED = "tuned/current.json"
FORGOTTEN = "forgotten/index.json"
POINTERS = (NIGHTS_INDEX, CHAMPION, TUNED, FORGOTTEN)
TOKENIZER = "tokenizer/tokenizer.json"
# Where empty files say which manifests and pointers are published.
PUBLISHED = "published"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Names of files and folders that lie among the nights or inside of one.
RESERVED = ("work", "index.json", "manifest.json")
# Where damaged nights and reports are made again; it is deleted when that is done.
SCRATCH = "repair"
HASH = re.compile("[0-9a-f]{64}")
# A manifest has more bytes.
SMALLEST = 40
# Every folder of the first level: what it holds, slimpajama wrote.
ROOTS = ("nights", "models", "tuned", "pairs", "reports", "forgotten", PUBLISHED, SCRATCH)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is published as a whole."""

    path: str

    @property
    def manifest(self) -> str:
        """The file that lists all others and is written last."""
        return f"{self.path}/{MANIFEST}"

    def work(self, step: str = "") -> str:
        """Folder of a step while it runs; without a name that of all steps."""
        return f"{self.path}/work/{step}" if step else f"{self.path}/work"

    def file(self, name: str) -> str:
        """A file that lies in the folder itself."""
        return f"{self.path}/{name}"

    def within(self, kind: str) -> str:
        """Beginning of the paths of everything in a folder inside, with its `/`; without a kind, of everything."""
        return f"{self.path}/{kind}/" if kind else f"{self.path}/"


class Night(Folder):
    """The corpus of one night."""

    @property
    def documents(self) -> str:
        """Beginning of the paths of the kept documents."""
        return self.within("documents")

    @property
    def removed(self) -> str:
        """Beginning of the paths of what was removed, with its reason."""
        return self.within("removed")

    @property
    def passages(self) -> str:
        """Beginning of the paths of what stands in many documents."""
        return self.within("passages")

    @property
    def notes(self) -> str:
        """Beginning of the paths of what there is to say of documents that were read."""
        return self.within("notes")

    @property
    def minhash(self) -> str:
        """Beginning of the paths of what later nights compare with."""
        return self.within("minhash")

    @property
    def tokenizer(self) -> str:
        """The night's vocabulary."""
        return self.file(TOKENIZER)

    def bands(self, part: str) -> str:
        """Band keys of a part of the documents that came in."""
        return f"{self.path}/bands/{part}.parquet"

    def texts(self, part: str) -> str:
        """Texts of a part of the documents that came in."""
        return f"{self.path}/texts/{part}.arrow"

    def windows(self, part: str) -> str:
        """Windows of a part of the documents, by which later nights find passages."""
        return f"{self.path}/windows/{part}.parquet"

    def split(self, name: str) -> str:
        """Beginning of the paths of a split's shards."""
        return f"{self.path}/shards/{name}/"

    @property
    def index(self) -> Folder:
        """What the training split is searched by; it has a manifest of its own, for it may come later."""
        return Folder(f"{self.path}/index")

    @property
    def merged_index(self) -> Folder:
        """The same of this night and of some before it together."""
        return Folder(f"{self.path}/index/merged")


class Model(Folder):
    """A trained or tuned model."""

    @property
    def checkpoints(self) -> str:
        """Folder of what a training that was broken off goes on from."""
        return f"{self.path}/checkpoints"

    @property
    def evaluations(self) -> str:
        """Beginning of the paths of all of its evaluations."""
        return self.within("evaluations")

    def evaluation(self, night: str) -> Folder:
        """What it scored on the held-out text of the nights up to this one."""
        return Folder(f"{self.path}/evaluations/{night}")

    def gate(self, night: str) -> Folder:
        """What was decided of it against the champion of that night."""
        return Folder(f"{self.path}/evaluations/{night}/gate")

    @property
    def memories(self) -> str:
        """Beginning of the paths of all of its memories."""
        return self.within("memory")

    def memory(self, night: str) -> Folder:
        """How it uses what the index of the nights up to this one holds."""
        return Folder(f"{self.path}/memory/{night}")


class Report(Folder):
    """What a night's report lies in, with the samples that it shows."""

    @property
    def page(self) -> str:
        """The page that people read."""
        return self.file("report.html")

    @property
    def data(self) -> str:
        """What the page shows, as JSON."""
        return self.file("report.json")

    @property
    def samples(self) -> str:
        """Texts that the night's models wrote."""
        return self.file("samples.json")

    @property
    def samples_manifest(self) -> str:
        """Manifest of the samples, which are written before the report."""
        return self.file("samples.manifest.json")


class Pairs(Folder):
    """A set of task data."""

    def split(self, name: str) -> str:
        """Beginning of the paths of a split's parts."""
        return self.within(name)


def night(name: str) -> Night:
    """Return where a night's corpus lies."""
    return Night(f"nights/{name}")


def model(model_id: str) -> Model:
    """Return where a model lies."""
    return Model(f"models/{model_id}")


def tuned(model_id: str) -> Model:
    """Return where a tuned model lies."""
    return Model(f"tuned/{model_id}")


def report(night_name: str) -> Report:
    """Return where a night's report lies."""
    return Report(f"reports/{night_name}")


def pairs(name: str) -> Pairs:
    """Return where a set of task data lies."""
    return Pairs(f"pairs/{name}")


class Place(NamedTuple):
    """A path taken apart: `nights/N/shards/train/x.parquet` is ("nights", "N", "shards", "train/x.parquet").

    What a path does not have is empty: of `models/champion.json` the owner is `champion.json`.
    """

    root: str
    owner: str
    kind: str
    rest: str

    @property
    def folder(self) -> Folder:
        """The owner's folder."""
        return Folder(f"{self.root}/{self.owner}")

    @property
    def inner(self) -> str:
        """First part of the rest: the split of a shard, the night of an evaluation."""
        return self.rest.partition("/")[0]

    @property
    def is_manifest(self) -> bool:
        """Whether this is the manifest of the owner's folder."""
        return bool(self.owner) and self.kind == MANIFEST and not self.rest


def place(path: str) -> Place:
    """Take a path apart."""
    parts = path.split("/", 3)
    return Place(*parts, *[""] * (4 - len(parts)))


def is_published_manifest(path: str) -> bool:
    """Return whether a path is that of a manifest whose files are published; one in a work folder lists others."""
    folders = path.split("/")
    # The fourth is the night of an evaluation; one of an earlier version may be called `work`, as a night may.
    return (
        path.endswith((f"/{MANIFEST}", f".{MANIFEST}"))
        and folders[0] not in (PUBLISHED, SCRATCH)
        and "work" not in [*folders[2:3], *folders[4:]]
    )


def noted(path: str) -> str:
    """Return the file that says that a manifest or a pointer is published; of a folder, where all such files lie."""
    return f"{PUBLISHED}/{path}"


def is_name(text: str) -> bool:
    """Return whether a night or a model can be called so: it becomes the name of a folder beside others."""
    return bool(NAME.fullmatch(text)) and text not in RESERVED


def may_be_given_up(path: str, size: int) -> bool:
    """Return whether this may be the empty manifest that is left on S3 of a folder that was given up."""
    return size < SMALLEST and place(path).is_manifest


def is_given_up(manifest: bytes) -> bool:
    """Return whether this is an empty manifest; one that was damaged is not."""
    return times_given_up(manifest) > 0 and not manifest.strip()


def times_given_up(manifest: bytes) -> int:
    """Return how often the folder of a manifest was given up: the line ends behind it, beyond its own."""
    return max(0, len(manifest) - len(manifest.rstrip(b"\n")) - 1)


def listed_name(path: str, digest: str, times: int) -> str:
    """Return the name on S3 of a listed file: with a hash of its content, and of how often its folder was given up."""
    if not HASH.fullmatch(digest):
        return path
    mark = (hashlib.sha256(f"{times} {digest}".encode()).hexdigest() if times else digest)[:16]
    folder, slash, last = path.rpartition("/")
    name, dot, ending = last.rpartition(".")
    # A shard has it already.
    return path if mark in last else f"{folder}{slash}{name or ending}.{mark}{dot}{ending if dot else ''}"


def scratch(folder: Folder) -> str:
    """Return where a folder is made again."""
    return f"{SCRATCH}/{folder.path}"


def folders_of(path: str) -> list[str]:
    """Return the folders that a path lies in, the outermost first."""
    return [path[:end] for end, char in enumerate(path) if char == "/"]


def name_of(path: str) -> str:
    """Return the last part of a path."""
    return path.rsplit("/", 1)[-1]


def folder_of(path: str) -> str:
    """Return a path without its last part."""
    return path.rpartition("/")[0]


def stem(path: str) -> str:
    """Return the last part of a path without its ending: the name of a part of the corpus, the key of a unit."""
    return name_of(path).rpartition(".")[0]
