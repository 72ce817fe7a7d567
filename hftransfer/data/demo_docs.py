"""`demo/docs`: the documentation that installed packages carry, a domain each, read at run time.

A document is the docstring of a public module, class, method or function, without its leading signature line. There
are 1000 to 3000 of them in each domain, from 1 (Python) to 5 (SciPy) million characters in all, of very uneven length.
"""

import importlib
import inspect
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hftransfer.data.demo import _SIGNATURE, SHORTEST_TEXT, settled

if TYPE_CHECKING:
    from datasets import Dataset

DOCS_PACKAGES = {  # of each config, the packages whose versions decide its content; Python's own is in its name
    "scipy": ("scipy",),
    "torch": ("torch",),
    "sklearn": ("scikit-learn",),
    "python": (),
}
_MODULES = {
    "scipy": """scipy.cluster.hierarchy scipy.cluster.vq scipy.constants scipy.datasets scipy.differentiate scipy.fft
        scipy.integrate scipy.interpolate scipy.io scipy.linalg scipy.ndimage scipy.optimize scipy.signal
        scipy.signal.windows scipy.sparse scipy.sparse.csgraph scipy.sparse.linalg scipy.spatial
        scipy.spatial.distance scipy.spatial.transform scipy.special scipy.stats scipy.stats.contingency
        scipy.stats.mstats scipy.stats.qmc""",
    "torch": """torch torch.amp torch.autograd torch.autograd.functional torch.autograd.profiler torch.distributions
        torch.fft torch.func torch.jit torch.library torch.linalg torch.masked torch.nested torch.nn
        torch.nn.attention torch.nn.functional torch.nn.init torch.nn.parallel torch.nn.utils
        torch.nn.utils.parametrizations torch.nn.utils.parametrize torch.nn.utils.prune torch.nn.utils.rnn
        torch.optim torch.optim.lr_scheduler torch.optim.swa_utils torch.package torch.profiler torch.signal.windows
        torch.sparse torch.special torch.utils.checkpoint torch.utils.data""",
    "sklearn": """sklearn.base sklearn.calibration sklearn.cluster sklearn.compose sklearn.covariance
        sklearn.cross_decomposition sklearn.datasets sklearn.decomposition sklearn.discriminant_analysis sklearn.dummy
        sklearn.ensemble sklearn.feature_extraction sklearn.feature_extraction.image sklearn.feature_extraction.text
        sklearn.feature_selection sklearn.gaussian_process sklearn.gaussian_process.kernels sklearn.impute
        sklearn.inspection sklearn.isotonic sklearn.kernel_approximation sklearn.kernel_ridge sklearn.linear_model
        sklearn.manifold sklearn.metrics sklearn.metrics.pairwise sklearn.mixture sklearn.model_selection
        sklearn.multiclass sklearn.multioutput sklearn.naive_bayes sklearn.neighbors sklearn.neural_network
        sklearn.pipeline sklearn.preprocessing sklearn.random_projection sklearn.semi_supervised sklearn.svm
        sklearn.tree sklearn.utils""",
    "python": """argparse array ast asyncio base64 bdb binascii bisect builtins bz2 calendar cmath cmd code codecs
        collections collections.abc colorsys compileall concurrent.futures configparser contextlib copy csv ctypes
        dataclasses datetime decimal difflib dis doctest email.message email.utils enum filecmp fileinput fnmatch
        fractions ftplib functools gc gettext glob graphlib gzip hashlib heapq hmac html html.parser http.client
        http.cookiejar http.cookies http.server imaplib importlib importlib.metadata importlib.resources inspect io
        ipaddress itertools json linecache locale logging logging.config logging.handlers lzma mailbox math mimetypes
        mmap multiprocessing multiprocessing.shared_memory netrc numbers opcode operator optparse os os.path pathlib
        pdb pickle pickletools pkgutil platform plistlib poplib pprint profile pstats py_compile queue random re
        reprlib runpy sched secrets select selectors shelve shlex shutil signal smtplib socket socketserver sqlite3
        ssl stat statistics string struct subprocess symtable sys sysconfig tarfile tempfile textwrap threading time
        timeit tokenize trace traceback tracemalloc types typing unicodedata unittest unittest.mock urllib.parse
        urllib.request uuid warnings wave weakref webbrowser xml.dom.minidom xml.etree.ElementTree xml.sax
        xmlrpc.client zipapp zipfile zipimport zlib""",
}


def docs(config: str) -> "Dataset":
    """The documents of a config of `DOCS_PACKAGES`: the column text (str). Sorted, duplicates dropped."""
    from datasets import Dataset

    texts = {
        settled(_SIGNATURE.sub("", text, count=1)).strip()
        for module in _MODULES[config].split()
        for text in _documents(module, config)
        if " at 0x" not in text  # an object's address is another one in every process
    }
    return Dataset.from_dict({"text": sorted(text for text in texts if len(text) >= SHORTEST_TEXT)})


def _documents(name: str, config: str) -> Iterator[str]:
    """The docstrings of a module, its public members, and its classes' own public members."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names warn when they are looked at
        module = importlib.import_module(name)
        yield _docstring(module)
        public = getattr(module, "__all__", None) or [member for member in dir(module) if not member.startswith("_")]
        for member in (_member(module, name) for name in sorted(public)):
            if not callable(member) or not _owned(member, config):
                continue
            yield _docstring(member)
            if inspect.isclass(member):
                own = vars(member)
                yield from (_docstring(own[part]) for part in sorted(own) if not part.startswith("_"))


def _member(module: Any, name: str) -> Any:
    try:
        return getattr(module, name, None)
    except ImportError:  # scikit-learn's experimental names ask to be switched on first
        return None


def _docstring(member: Any) -> str:
    found = getattr(member, "__doc__", None)
    return inspect.cleandoc(found) if isinstance(found, str) else ""


def _owned(member: Any, config: str) -> bool:
    """Whether a member is the package's, not one that it imports for itself. A compiled one may not say."""
    home = getattr(member, "__module__", None)
    return config == "python" or not isinstance(home, str) or home.split(".")[0] in (config, "builtins")
