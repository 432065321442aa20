"""The edits to the tests of Go's own standard library, for `gothreads test`."""

from __future__ import annotations

from gothreads.build.edit import Edit


def _unskipped(file: str, condition: str, reason: str, why: str, count: int = 1) -> Edit:
    """Run a test that Go skips on wasm for a reason that no longer holds; it stays skipped on js."""
    skip = f' {{\n\t\tt.Skip("{reason}")'
    return Edit(file, condition + skip, condition.replace('GOARCH == "wasm"', 'GOOS == "js"') + skip, why, count)


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
    *(Edit("net/unixsock_test.go", f'case "android", "linux"{more}:\n\t\t\tif laddr',
           f'case "android", "linux"{more}, "wasip1":\n\t\t\tif laddr', "sockets are Linux's, which names them @")
      for more in ("", ', "windows"')),
)
