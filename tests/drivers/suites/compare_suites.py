"""Runs the suites of drivers against a primary and against Millpond, and compares the lists of results."""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(sys.argv[1])
PYTHON = sys.executable
DEADLINE_S = 1500

DJANGO_SETTINGS = """
DATABASES = {{alias: {{"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": {port}, "USER": "postgres",
    "PASSWORD": "secret", "NAME": name, "TEST": {{"NAME": name}}}} for alias, name in (("default", "shop"), ("other", "shop_other"))}}
SECRET_KEY = "x"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""
DJANGO_APPS = ("backends introspection transactions transaction_hooks basic bulk_create queries.test_q get_or_create update select_for_update "
               "expressions aggregation annotations lookup raw_query migrations.test_commands schema inspectdb constraints datatypes "
               "delete prefetch_related select_related many_to_many model_fields db_functions async nested_foreign_keys").split()


def pytest(folder, junit, *args):
    return [PYTHON, "-m", "pytest", "-q", "--maxfail=100000", "-p", "no:cacheprovider", "--timeout=120", f"--junitxml={junit}", *args], folder


def asyncpg(port, work):
    return pytest(CACHE / "asyncpg", work / "junit.xml", "tests", "--ignore=tests/test__sourcecode.py", "--ignore=tests/test_subinterpreters.py")


def sqlalchemy(driver):
    def command(port, work):
        url = f"postgresql+{driver}://postgres:secret@127.0.0.1:{port}/shop"
        return pytest(CACHE / "sqlalchemy", work / "junit.xml", "test/dialect/postgresql", "test/engine/test_transaction.py", "--dburi", url,
                      "-m", "not memory_intensive")
    return command


def django(port, work):
    (work / "millpond_settings.py").write_text(DJANGO_SETTINGS.format(port=port))
    return [PYTHON, "runtests.py", "--settings=millpond_settings", "--keepdb", "--parallel=1", "-v", "2", "--noinput", *DJANGO_APPS], CACHE / "django" / "tests"


SUITES = {"asyncpg": asyncpg, "sqlalchemy-psycopg": sqlalchemy("psycopg"), "sqlalchemy-asyncpg": sqlalchemy("asyncpg"), "django": django}


def results(work, out):
    """The outcome of each test."""
    found = {}
    junit = work / "junit.xml"
    if junit.exists():
        for case in xml.etree.ElementTree.parse(junit).iter("testcase"):
            kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
            found[f"{case.get('classname')}.{case.get('name')}"] = min(kinds) if kinds else "passed"
        return found
    # Django's runner: "test_x (module.Class.test_x) ... ok", with the test's own output in between.
    for name, outcome in re.findall(r"^\w+ \(([\w.]+)\)(?:\n[^\n]*?)? \.\.\. (ok|FAIL|ERROR|skipped|expected failure)", out, re.M):
        found[name] = {"ok": "passed", "FAIL": "failure", "ERROR": "error"}.get(outcome, outcome)
    for outcome, name in re.findall(r"^(FAIL|ERROR): \w+ \(([\w.]+)\)", out, re.M):
        found[name] = {"FAIL": "failure", "ERROR": "error"}[outcome]
    return found


def run(suite, port, admin):
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        command, cwd = SUITES[suite](port, work)
        env = dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(port), PGUSER="postgres", PGPASSWORD="secret", PGDATABASE="shop", PYTHONPATH=folder)
        started = time.monotonic()
        try:
            done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  timeout=DEADLINE_S, text=True, errors="replace")
            out = done.stdout
        except subprocess.TimeoutExpired as late:
            out = (late.stdout or b"").decode(errors="replace") + "\nnot done in time\n"
        log = pathlib.Path(tempfile.gettempdir()) / f"millpond-suite-{suite}-{port}.log"
        log.write_text(out)
        found = results(work, out)
        print(f"{suite} on port {port}: {dict(collections.Counter(found.values()))}, {time.monotonic() - started:.0f} s, log {log}", flush=True)
        return found


def main():
    suites = sys.argv[2:] or list(SUITES)
    bins = [b for b in os.environ.get("MILLPOND_TEST_PG_BINS", "").split(":") if b][:1]
    differ = 0
    for suite in suites:
        # Each with servers of its own, twice: what one run leaves is not there for the next.
        both = {}
        for side in ("primary", "millpond"):
            server = subprocess.Popen([PYTHON, HERE.parent / "compare.py", "--serve", *bins], stdout=subprocess.PIPE, text=True)
            ports = json.loads(server.stdout.readline())
            env = dict(os.environ, PGPASSWORD="secret")
            for sql in ("create schema test_schema", "create schema test_schema_2", "create database shop_other", "alter system set lock_timeout = '60s'", "select pg_reload_conf()"):
                subprocess.run(["psql", "-XqAtc", sql, "-h", "127.0.0.1", "-p", str(ports["primary"]), "-U", "postgres", "-d", "shop"], env=env, check=True,
                               stdout=subprocess.DEVNULL)
            try:
                both[side] = run(suite, ports[side], ports["admin"])
            finally:
                server.terminate()
                server.wait()
        ours, theirs = both["millpond"], both["primary"]
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                differ += 1
                print(f"  {name}: {theirs.get(name)} on the primary, {ours.get(name)} on Millpond")
    print(f"{differ} tests differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
