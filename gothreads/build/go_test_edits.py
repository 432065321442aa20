"""The edits to the tests of Go's own standard library, for `gothreads test`."""

from __future__ import annotations

from gothreads.build.edit import Edit


def _unskipped(file: str, condition: str, reason: str, why: str, count: int = 1) -> Edit:
    """Run a test that Go skips on wasm for a reason that no longer holds; it stays skipped on js."""
    skip = f' {{\n\t\tt.Skip("{reason}")'
    return Edit(file, condition + skip, condition.replace('GOARCH == "wasm"', 'GOOS == "js"') + skip, why, count)


_SOCKETS = "sockets are the host's, with all that Unix has"

#: For `go test`: correct what Go's own tests assume about wasip1. Otherwise they skip everything parallel, and pass.
TEST_EDITS: tuple[Edit, ...] = (
    Edit("internal/testenv/testenv.go",
         'case "js", "wasip1":\n\t\treturn false\n\t}\n\treturn true\n}\n\n// MustHaveParallelism',
         'case "js":\n\t\treturn false\n\t}\n\treturn true\n}\n\n// MustHaveParallelism',
         "goroutines run in parallel"),
    _unskipped("runtime/proc_test.go", 'if runtime.GOARCH == "wasm"', "no preemption on wasm yet",
               "loops are preempted", count=7),
    _unskipped("runtime/proc_test.go", 'if runtime.GOARCH == "wasm"', "no threads on wasm yet", "there are threads"),
    _unskipped("runtime/gc_test.go", 'if runtime.GOARCH == "wasm"', "no sysmon on wasm yet", "there is a sysmon"),
    _unskipped("runtime/rwmutex_test.go", 'if GOARCH == "wasm"', "wasm has no threads yet", "there are threads"),
    Edit("runtime/metrics_test.go", 'if runtime.GOOS == "wasip1" {\n\t\t// Since wasip1 busy-waits',
         'if runtime.GOOS == "js" {\n\t\t// Since wasip1 busy-waits', "an idle scheduler sleeps"),
    Edit("runtime/metrics_test.go", 'if runtime.GOARCH == "wasm" {\n\t\t\t\t\tt.Skip("GOMAXPROCS >1',
         'if runtime.GOOS == "js" {\n\t\t\t\t\tt.Skip("GOMAXPROCS >1', "GOMAXPROCS may exceed 1"),
    Edit("runtime/profbuf_test.go", '\tcase "wasip1":\n\t\twaitStatus = "runnable"\n', "",
         "a reader sleeps on a futex, as elsewhere", since="1.26"),
    Edit("internal/trace/testtrace/platforms.go", 'case "js", "wasip1":', 'case "js":', "system calls are traced",
         since="1.26"),
    Edit("runtime/pprof/pprof_test.go", '\tcase "wasip1":\n\t\tt.Skip("skipping on wasip1")\n', "",
         "there are CPU profiles"),
    Edit("runtime/pprof/pprof_test.go", "func TestTimeVDSO(t *testing.T) {\n",
         'func TestTimeVDSO(t *testing.T) {\n\tt.Skip("time.now has no check, so its samples are its caller\'s")\n',
         "a function without a check is charged to its caller"),
    # Of net's tests three stay skipped: what listens on [::] gets an address that the rules allow, the host removes a
    # Unix socket's file, and calls of the host allocate.
    *(Edit("net/dial_test.go", 'case "js", "wasip1":\n\t\tt.Skipf("skipping: fake net',
           'case "js":\n\t\tt.Skipf("skipping: fake net', _SOCKETS, count, since=since, until=until)
      for count, since, until in ((2, None, "1.26"), (3, "1.26", None))),
    Edit("net/file_test.go", 'case "plan9", "js", "wasip1":', 'case "plan9", "js":', _SOCKETS, count=4),
    Edit("net/rawconn_test.go", 'case "plan9", "js", "wasip1":', 'case "plan9", "js":', _SOCKETS, count=2),
    Edit("net/rawconn_stub_test.go", "//go:build js || plan9 || wasip1\n", "//go:build js || plan9\n", _SOCKETS),
    Edit("net/rawconn_unix_test.go", "//go:build unix\n", "//go:build unix || wasip1\n", _SOCKETS),
    Edit("net/platform_test.go", 'case "windows", "js", "wasip1":', 'case "windows", "js":', _SOCKETS),
    Edit("net/tcpsock_test.go", 'case "js", "wasip1":\n\t\tt.Skipf("skipping: os.Pipe',
         'case "js":\n\t\tt.Skipf("skipping: os.Pipe', "there are pipes"),
    Edit("net/unixsock_test.go", 'case "js", "wasip1":\n\t\tt.Skipf("skipping: syscall.Socket',
         'case "js":\n\t\tt.Skipf("skipping: syscall.Socket', _SOCKETS),
    *(Edit("net/unixsock_test.go", f'case "android", "linux"{more}:\n\t\t\tif laddr',
           f'case "android", "linux"{more}, "wasip1":\n\t\t\tif laddr', "sockets are Linux's, which names them @")
      for more in ("", ', "windows"')),
)
