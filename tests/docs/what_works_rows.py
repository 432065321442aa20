"""The rows of docs/what-works.md: what is tried, with which program or command, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the page.

    program: a program of tests/docs/programs/works.
    command: a command, instead of a program; `says`: a pattern for the line of its output that says what happened.
    zones: give the program Go's time zones, as a mount.
    """

    group: str
    what: str
    instead: str = ""
    program: str = ""
    command: tuple[str, ...] = ()
    says: str = ""
    zones: bool = False


def _programs(group: str, *rows: tuple[str, str, str]) -> list[Row]:
    return [Row(group, what, instead, program, zones=program == "zone-mounted") for program, what, instead in rows]


def _commands(group: str, *rows: tuple[str, tuple[str, ...], str, str]) -> list[Row]:
    return [Row(group, what, instead, command=command, says=says) for what, command, says, instead in rows]


_MOUNT = "mount what it needs: `--mount ./data:/data`, `mounts={\"/data\": \"./data\"}`"
_HANDLER = "let the host do it: `guest.Call(\"run\", …)` and a handler in Python ([how](handlers-and-events.md))"

ROWS = [
    *_programs(
        "Network",
        ("net-dial", "`net.Dial` to another process: `--allow-net`", ""),
        ("net-timeout", "deadlines of connections", ""),
        ("options", "`SetKeepAlivePeriod`, `SetLinger`, `CloseWrite`, `File`", ""),
        ("net-listen", "`net.Listen`, for other processes to connect to: `--listen` or `--allow-net`", ""),
        ("net-itself", "`net.Listen` and `net.Dial` within the program, without any option", ""),
        ("net-pipe", "`net.Pipe`", ""),
        ("udp", "UDP", ""),
        ("unix", "Unix sockets: `--allow-net unix:PATH`", ""),
        ("http-get", "`http.Get`", ""),
        ("https", "`net/http` with TLS and HTTP/2", ""),
        ("localhost", "`net.LookupHost(\"localhost\")`", ""),
        ("guest-dial", "`guest.Dial`", ""),
        ("guest-listen", "`guest.Listen`", ""),
        ("interfaces", "`net.Interfaces`", "it is always one, `lo`; pass what else it needs in `env=`"),
    ),
    *_programs(
        "Processes and signals",
        ("exec", "`exec.Command(…).Output`", _HANDLER),
        ("look-path", "`exec.LookPath`", _HANDLER),
        ("start-process", "`os.StartProcess`", _HANDLER),
        ("notify", "`signal.Notify`; `gothreads run` and `app.send_signal` deliver signals",
         "(with stock Go no signal arrives, and [the thread never rests](models.md#what-runs))"),
        ("exit", "`os.Exit`", ""),
        ("recover", "`recover` from a nil pointer", ""),
    ),
    *_programs(
        "User and machine",
        ("user", "`user.Current`", "it is always this user: `env={\"USER\": \"me\", \"HOME\": \"/home\"}`"),
        ("lookup-user", "`user.Lookup`", "`--mount /etc/passwd:/etc/passwd:ro`, or pass what it needs in `env=`"),
        ("home", "`os.UserHomeDir`", '`env={"HOME": "/home"}` and a mount at `/home`'),
        ("uid", "`os.Getuid`", ""),
        ("pid", "`os.Getpid`", "it is always this; pass the host's in `env=`"),
        ("hostname", "`os.Hostname`", "it is always this; pass the host's in `env=`"),
        ("executable", "`os.Executable`", "`embed` what lies beside it, or mount it"),
        ("environ", "`os.Environ` without `env=`", "`env={…}`, `--env NAME`: nothing is inherited"),
        ("goos", "`runtime.GOOS`, `runtime.GOARCH`", "build tags: `//go:build wasip1`"),
    ),
    *_programs(
        "Files",
        ("read-write", "create, write, read, in a mounted folder", ""),
        ("append", "`os.O_APPEND`", ""),
        ("rename-remove", "`os.Rename`, `os.Remove`", ""),
        ("folders", "`os.MkdirAll`, `filepath.WalkDir`, `os.RemoveAll`", ""),
        ("link", "`os.Link`", ""),
        ("symlink", "`os.Symlink`, `os.Readlink`", ""),
        ("truncate", "`os.Truncate`", ""),
        ("sync", "`File.Sync`", ""),
        ("chtimes", "`os.Chtimes`", ""),
        (
            "mode",
            "`FileInfo.Mode`: permissions",
            "WASI has no permissions, so Go makes them up; the host checks its own. New files get what the umask leaves: "
            "`umask 077`",
        ),
        ("chmod", "`os.Chmod`", "change them on the host"),
        ("chown", "`os.Chown`", "change it on the host"),
        ("root", "`os.Root`", ""),
        ("etc", "a path that no mount covers", _MOUNT),
        ("temp", "`os.MkdirTemp` in `/tmp`", "`--mount ./tmp:/tmp`"),
        ("temp-mounted", "the same, with `TMPDIR` in a mount", ""),
        ("getwd", "`os.Getwd`", "it is `PWD` in `env=`, else the first mount; of `run`, your own folder"),
        ("chdir", "`os.Chdir`, and relative paths", ""),
        ("pipe", "`os.Pipe`", ""),
        ("deadline", "deadlines of pipes", ""),
    ),
    *_programs(
        "Time",
        ("timer", "timers, tickers, `time.Sleep`", ""),
        ("local", "`time.Local` is the machine's zone", "it is UTC: load a zone, and use `t.In(zone)`"),
        ("zone", "`time.LoadLocation`", ""),
        ("zone-mounted", "the same, with zones mounted and `ZONEINFO`", ""),
    ),
    *_commands("Time", ('the same, with `import _ "time/tzdata"`', ("gothreads", "run", "zones"), "", "")),
    *_programs(
        "Threads, memory, recursion",
        ("parallel", "goroutines run at the same time", ""),
        ("spin", "a loop without calls is preempted", ""),
        ("procs", "`GOMAXPROCS`, `NumCPU`: `procs=`", ""),
        ("set-procs", "`runtime.GOMAXPROCS(n)`", ""),
        ("lock-os-thread", "`runtime.LockOSThread`", ""),
        ("int", "`int` has 64 bits", ""),
        ("one-gib", "a slice of 1 GiB", ""),
        (
            "four-gib",
            "a slice of 4 GiB",
            "WebAssembly's memory ends at 4 GiB, a module's at 3.75: share the work among modules",
        ),
        ("memory-limit", "`debug.SetMemoryLimit`, `GOMEMLIMIT`", ""),
        ("gc-percent", "`debug.SetGCPercent`, `GOGC`", ""),
        ("deep", "recursion, 500,000 deep", ""),
        ("too-deep", "recursion, 5,000,000 deep", "`debug.SetMaxStack`: the limit is 64 MB, and natively 1 GB"),
        ("max-stack", "the same, after `debug.SetMaxStack(1 << 30)`", ""),
    ),
    *_programs(
        "Looking inside",
        ("stack", "`debug.Stack`, tracebacks with lines", ""),
        ("build-info", "`debug.ReadBuildInfo`", ""),
        ("metrics", "`runtime/metrics`, `runtime.MemStats`", ""),
        ("heap-profile", "heap profiles", ""),
        ("goroutine-profile", "goroutine profiles", ""),
        ("mutex-profile", "mutex and block profiles", ""),
        ("cpu-profile", "CPU profiles", ""),
        ("trace", "`runtime/trace`", ""),
    ),
    *_commands(
        "Building",
        ("`gothreads build`: a program that runs on", ("gothreads", "build", "hello", "-o", "OUT/a.wasm"), "", ""),
        (
            "`gothreads build --buildmode c-shared`: `main` does not run",
            ("gothreads", "build", "hello", "--buildmode", "c-shared", "-o", "OUT/a.wasm"),
            "",
            "",
        ),
        (
            "`-buildmode` `c-archive`, `shared`, `pie`, `plugin`",
            ("gothreads", "build", "hello", "--buildmode", "plugin", "-o", "OUT/a.wasm"),
            "invalid choice: 'plugin'",
            "`exe`, or `c-shared`",
        ),
        (
            'cgo: `import "C"`',
            ("gothreads", "build", "usescgo", "-o", "OUT/a.wasm"),
            "uses cgo[^:\n]*",
            "a package in pure Go; C as a module of its own ([how](other-languages.md)); or the host calls the "
            "library, and Go the host",
        ),
        (
            "`syscall.Mmap`",
            ("gothreads", "build", "mmap", "-o", "OUT/a.wasm"),
            "undefined: syscall.Mmap",
            "`os.ReadFile`, `io.ReaderAt`",
        ),
    ),
    *_commands(
        "Testing",
        ("`gothreads test`", ("gothreads", "test", "./hello"), "", ""),
        ("`-bench`", ("gothreads", "test", "-bench", ".", "-benchtime", "1x", "./hello"), "", ""),
        ("`-cover`", ("gothreads", "test", "-cover", "./hello"), "", ""),
        (
            "`-race`",
            ("gothreads", "test", "-race", "./hello"),
            "Go has no -race for WebAssembly",
            "`gothreads test --seeds` and `--sharpen` find races here; `go test -race` natively finds them",
        ),
        (
            "`-fuzz`",
            ("gothreads", "test", "-fuzz", "FuzzUpper", "./hello"),
            "Go has no -fuzz for WebAssembly",
            "`go test -fuzz` natively; `gothreads test` runs the corpus that it found",
        ),
    ),
]
