"""What foreign programs stand on, downloaded once: Kafka's jars, compiled Java, kafkajs, Python packages that are not ours.

~/.cache/quorumlog-clients/jars/          from Maven Central, as java/jars.sha256 pins them
~/.cache/quorumlog-clients/classes-HASH/  java/*.java compiled
~/.cache/quorumlog-clients/npm-HASH/      `npm ci` on kafkajs/package-lock.json
~/.cache/quorumlog-clients/venv-HASH/     a virtual environment with what a requirements.txt pins
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
JAVA = HERE / "java"  # *.java, and the jars.sha256 that they stand on
MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
DOWNLOAD_TIMEOUT_S = 60
JAVA_VERSION_MIN = 17


class LackingError(Exception):
    """This machine cannot run a client; the message says what it lacks."""


def cache_directory() -> Path:
    return Path(os.environ.get("QUORUMLOG_CLIENTS_CACHE") or "~/.cache/quorumlog-clients").expanduser()


def pinned_jars(*sources: Path) -> dict[str, str]:
    """group:artifact:version -> sha256: Kafka's, and what the jars.sha256 of other Java sources adds."""
    lines = [line for source in (JAVA, *sources) for line in (source / "jars.sha256").read_text().splitlines()]
    return {name: digest for digest, name in (line.split() for line in lines)}


def kafka_version() -> str:
    return next(name.split(":")[2] for name in pinned_jars() if ":kafka-clients:" in name)


def classpath(*sources: Path) -> str:
    """All jars, there and checked. Raises LackingError."""
    directory = cache_directory() / "jars"
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda jar: _jar(directory, *jar), pinned_jars(*sources).items()))
    return os.pathsep.join(map(str, paths))


def _jar(directory: Path, name: str, digest: str) -> Path:
    group, artifact, version = name.split(":")
    path = directory / f"{artifact}-{version}.jar"
    if not (path.exists() and _sha256(path.read_bytes()) == digest):
        content = _download(f"{MAVEN_CENTRAL}/{group.replace('.', '/')}/{artifact}/{version}/{path.name}")
        if _sha256(content) != digest:
            raise LackingError(f"{name} has sha256 {_sha256(content)} on Maven Central, pinned is {digest}")
        _write(path, content)
    return path


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except OSError as error:
        raise LackingError(f"cannot download {url}: {error}") from error


def _write(path: Path, content: bytes) -> None:
    """In one step, because another run may do the same."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def java() -> str:
    """The command. Raises LackingError if there is none, or an old one."""
    path = shutil.which("java")
    if path is None:
        raise LackingError("there is no java (apt-get install default-jdk-headless)")
    told = subprocess.run([path, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False).stderr
    version = next((line.split("=")[1].strip() for line in told.splitlines() if "java.specification.version =" in line), "?")
    if not version.isdigit() or int(version) < JAVA_VERSION_MIN:
        raise LackingError(f"{path} is Java {version}; needed is {JAVA_VERSION_MIN} (apt-get install default-jdk-headless)")
    return path


def java_classes(source: Path = JAVA) -> Path:
    """The Java sources of a directory, compiled: by default the client. Raises LackingError."""
    compiler = shutil.which("javac")
    if compiler is None:
        raise LackingError("there is no javac (apt-get install default-jdk-headless)")
    files = sorted(source.glob("*.java"))
    pins = "".join(f"{name} {digest}\n" for name, digest in pinned_jars(source).items())
    directory = cache_directory() / f"classes-{_sha256(b''.join(file.read_bytes() for file in files) + pins.encode())[:16]}"
    if not directory.exists():
        command = [compiler, "-nowarn", "-cp", classpath(source), "-d"]
        _build(directory, lambda target: [*command, str(target), *map(str, files)])
    return directory


def python(requirements: Path) -> str:
    """The interpreter of a virtual environment with these packages, apart from the project's. Raises LackingError."""
    name = f"venv-{sys.version_info.major}.{sys.version_info.minor}-{_sha256(requirements.read_bytes())[:16]}"
    directory = cache_directory() / name

    def install(target: Path) -> list[str]:
        venv.create(target, with_pip=True)
        interpreter = str(target / "bin" / "python")
        return [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]

    if not directory.exists():
        _build(directory, install)
    return str(directory / "bin" / "python")


def node() -> str:
    path = shutil.which("node")
    if path is None:
        raise LackingError("there is no node (apt-get install nodejs npm)")
    return path


def node_modules() -> Path:
    """kafkajs and what it needs, as package-lock.json pins it. Raises LackingError."""
    npm = shutil.which("npm")
    if npm is None:
        raise LackingError("there is no npm (apt-get install nodejs npm)")
    sources = [HERE / "kafkajs" / name for name in ("package.json", "package-lock.json")]
    directory = cache_directory() / f"npm-{_sha256(b''.join(source.read_bytes() for source in sources))[:16]}"

    def install(target: Path) -> list[str]:
        for source in sources:
            shutil.copy(source, target)
        return [npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(target)]

    if not directory.exists():
        _build(directory, install)
    return directory / "node_modules"


def _build(directory: Path, command: object) -> None:
    """Run a command that fills a directory, which exists only when it succeeded."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(dir=directory.parent))
    try:
        words = command(target)  # type: ignore[operator]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise LackingError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
        if not directory.exists():
            target.rename(directory)
    finally:
        shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    print({"classpath": classpath, "classes": java_classes, "node_modules": node_modules}[sys.argv[1]]())
