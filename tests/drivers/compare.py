"""Runs each client against a primary and against Millpond before it, and compares their transcripts.

A client is a folder with a program named `transcript` (any suffix). It gets a connection URL, prints what it
sees, and leaves nothing behind that the next run could see. Before each run the rows are the same.
"""

import concurrent.futures
import difflib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PASSWORD = "secret"
DEADLINE_S = 60

# Each client with the least number of statements that must be answered from memory, so that a run in
# which everything fell through cannot pass for a comparison.
CLIENTS = {
    "psql": 20,
    "pg_dump": 0,
    "pgbench": 200,
    "psycopg": 80,
    "asyncpg": 40,
    "sqlalchemy": 8,
    "django": 20,
    "node": 80,
    "jdbc": 80,
}

PYTHON = [os.environ.get("MILLPOND_DRIVERS_VENV", sys.prefix) + "/bin/python"]
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-cp",
        os.environ.get("MILLPOND_DRIVERS_JAVA", ".") + ":/usr/share/java/postgresql.jar", "Transcript"]
COMMANDS = {".py": lambda f: PYTHON + [f], ".js": lambda f: ["node", f], ".java": lambda f: JAVA, ".sh": lambda f: ["bash", f]}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A PostgreSQL server of its own, with passwords, and Millpond before it."""

    def __init__(self, bin_dir, folder):
        self.bin_dir, self.folder, self.port = pathlib.Path(bin_dir), folder, free_port()
        self.as_user = []
        folder.chmod(0o755)
        # PostgreSQL refuses to run as root.
        if os.getuid() == 0:
            name = "postgres" if any(p.pw_name == "postgres" for p in pwd.getpwall()) else "nobody"
            self.as_user = ["setpriv", "--reuid=" + name, "--regid=" + str(pwd.getpwnam(name).pw_gid), "--clear-groups"]
            shutil.chown(folder, name)
        self.version = subprocess.check_output([self.bin_dir / "postgres", "--version"], text=True).split()[2]
        self.major = int(re.match(r"\d+", self.version)[0])

    def start(self):
        data = self.folder / "data"
        (self.folder / "pw").write_text(PASSWORD)
        (self.folder / "pw").chmod(0o644)
        self.run("initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
                 "-A", "scram-sha-256", f"--pwfile={self.folder}/pw")
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                       "wal_level = logical\nfsync = off\njit = off\nmax_connections = 200\nlc_messages = 'C'\n"
                       # What it gathers, and when, shows in drivers' metadata.
                       "autovacuum = off\n"
                       "max_prepared_transactions = 10\ntimezone = 'UTC'\n")
        log = open(self.folder / "log", "w")
        self.postgres = self.spawn([*self.as_user, self.bin_dir / "postgres", "-D", data], log)
        self.wait("the primary answers", lambda: self.sql("postgres", "postgres", "select 1").returncode == 0)
        self.must("postgres", "postgres", "create database shop")
        self.must("postgres", "shop", f=HERE / "setup.sql")
        self.reset()

    def spawn(self, command, log):
        unblocked = lambda: signal.pthread_sigmask(signal.SIG_SETMASK, set())  # noqa: E731
        return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=unblocked)

    def run(self, program, *args):
        subprocess.run([*self.as_user, self.bin_dir / program, *args], check=True, stdout=subprocess.DEVNULL)

    def sql(self, user, database, command=None, f=None):
        what = ["-c", command] if command else ["-f", f]
        env = dict(os.environ, PGPASSWORD=PASSWORD)
        return subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", user,
                               "-d", database, *what], env=env, capture_output=True, text=True)

    def must(self, *args, **named):
        done = self.sql(*args, **named)
        if done.returncode != 0:
            raise SystemExit(f"{args}: {done.stderr}")

    def reset(self):
        self.must("app", "shop", f=HERE / "reset.sql")

    def start_millpond(self):
        self.listen, self.admin = free_port(), free_port()
        config = self.folder / "millpond.toml"
        config.write_text(f"""
[primary]
url = "postgres://postgres:{PASSWORD}@127.0.0.1:{self.port}/shop"
[listen]
address = "127.0.0.1:{self.listen}"
[[tables]]
match = ["public.*"]
[replication]
status_interval = "100ms"
catalog_interval = "100ms"
slot_timeout = "1s"
[fallthrough]
writes = "forward"
[freshness]
wait_timeout = "10s"
[admin]
listen = "127.0.0.1:{self.admin}"
""")
        program = os.environ.get("MILLPOND_BIN") or os.environ.get("CARGO_TARGET_DIR", "target") + "/debug/millpond"
        log = open(self.folder / "millpond.log", "w")
        self.millpond = self.spawn([program, "serve", "--config", config], log)
        self.wait("Millpond is ready", self.ready)

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def wait(self, what, condition):
        end = time.monotonic() + 60
        while not condition():
            if time.monotonic() > end:
                raise SystemExit(f"{self.version}: waited in vain until {what}; see {self.folder}")
            time.sleep(0.05)

    def local(self):
        """How many statements Millpond has answered from memory."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5).read().decode()
        counts = re.findall(r'^millpond_queries_total\{route="(\w+)"\} (\d+)', text, re.M)
        return sum(int(count) for route, count in counts if route != "primary")

    def transcript(self, client, port):
        self.reset()
        (program,) = (HERE / client).glob("[tT]ranscript.*")
        command = COMMANDS[program.suffix](str(program))
        url = f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/shop"
        env = dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(port), PGUSER="app", PGPASSWORD=PASSWORD, PGDATABASE="shop", LC_ALL="C.UTF-8", NODE_NO_WARNINGS="1", PYTHONUTF8="1", PYTHONUNBUFFERED="1", PGCONNECT_TIMEOUT="20")
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        process = subprocess.Popen([*command, url], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="backslashreplace", start_new_session=True)
        try:
            out = process.communicate(timeout=DEADLINE_S)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out = process.communicate()[0] + f"\n-- not done after {DEADLINE_S} s\n"
        # The one thing that must differ is where the client connected to.
        return out.replace(str(port), "<port>") + f"-- exit {process.returncode}\n"

    def stop(self):
        for process, how in ((getattr(self, "millpond", None), signal.SIGTERM), (getattr(self, "postgres", None), signal.SIGINT)):
            if process:
                process.send_signal(how)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


def compare(server, client, keep):
    started = time.monotonic()
    expected = server.transcript(client, server.port)
    before = server.local()
    actual = server.transcript(client, server.listen)
    local = server.local() - before
    if keep:
        for name, text in (("primary", expected), ("millpond", actual)):
            (keep / f"{client}-{server.major}-{name}.txt").write_text(text)
    problems = []
    if expected != actual:
        lines = difflib.unified_diff(expected.splitlines(), actual.splitlines(), "primary", "millpond", lineterm="", n=4)
        problems.append("\n".join(list(lines)[:120]))
    if not expected.endswith("-- exit 0\n"):
        problems.append("the client failed on the primary:\n" + "\n".join(expected.splitlines()[-30:]))
    if local < CLIENTS[client]:
        problems.append(f"{local} statements were answered from memory, fewer than {CLIENTS[client]}")
    lines = expected.count("\n")
    verdict = "differs" if problems else "equal"
    print(f"{client} on {server.version}: {verdict}; {lines} lines, {local} statements from memory, "
          f"{time.monotonic() - started:.1f} s", flush=True)
    return [f"{client} on {server.version}: {problem}" for problem in problems]


def compare_all(bin_dir, clients, keep):
    with tempfile.TemporaryDirectory(prefix="millpond-drivers-") as folder:
        server = Server(bin_dir, pathlib.Path(folder))
        try:
            server.start()
            server.start_millpond()
            return [problem for client in clients for problem in compare(server, client, keep)]
        finally:
            server.stop()


def serve(bin_dir):
    """Only starts both, for looking around; ends with this process."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="millpond-drivers-"))
    server = Server(bin_dir, folder)
    # Both servers are to end with this process: the signals wait until they are waited for.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        server.start()
        server.start_millpond()
        print(json.dumps({"primary": server.port, "millpond": server.listen, "admin": server.admin, "folder": str(folder)}), flush=True)
        signal.sigwait(signals)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    started = time.monotonic()
    bins = [b for b in os.environ.get("MILLPOND_TEST_PG_BINS", "").split(":") if b]
    bins = bins or sorted(str(p) for p in pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    if sys.argv[1:2] == ["--serve"]:
        return serve(sys.argv[2] if len(sys.argv) > 2 else bins[0])
    clients = sys.argv[1:] or list(CLIENTS)
    keep = os.environ.get("MILLPOND_DRIVERS_KEEP")
    keep = pathlib.Path(keep) if keep else None
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(len(bins)) as pool:
        results = list(pool.map(lambda b: compare_all(b, clients, keep), bins))
    problems = [problem for result in results for problem in result]
    for problem in problems:
        print("\n" + problem)
    passed = len(clients) * len(bins) - len({p.split(":")[0] for p in problems})
    print(f"\nclients compared in {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {len(clients) * len(bins) - passed} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
