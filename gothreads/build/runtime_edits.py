"""The edits that give GOOS=wasip1 threads and signals. Longer code is in `goroot/runtime/*_gothreads.*`."""

from __future__ import annotations

from gothreads.build.edit import Edit

#: The beginning of errors of os/exec.
_EXEC = ("a module in WebAssembly starts no processes: let the host do it, with guest.Call of gothreads/guest "
         "(docs/what-works.md)")

#: Threads.
RUNTIME_EDITS: tuple[Edit, ...] = (
    # Locks: use the futex-based ones of other systems, on WebAssembly's wait and notify.
    Edit(
        "runtime/lock_futex.go",
        "//go:build dragonfly || freebsd || linux",
        "//go:build dragonfly || freebsd || linux || wasip1",
        "notes on futexes",
    ),
    Edit("runtime/lock_spinbit.go", "//go:build !wasm", "//go:build !js", "mutexes on futexes"),
    Edit(
        "runtime/runtime2.go",
        "_ [(1 - goarch.IsWasm) * (2048",
        "_ [1 * (2048",
        "spin-bit mutexes keep flags in the low 11 bits of an M's address",
    ),
    # threads_gothreads.go defines what os_wasm.go stubs out.
    Edit(
        "runtime/runtime2.go",
        "\tschedtick   uint32     // incremented on every scheduler call\n",
        "\tschedtick   uint32     // incremented on every scheduler call\n\tio          ioTurn\n",
        "a goroutine that finds data each time shares its P"),
    Edit(
        "runtime/netpoll.go",
        "func poll_runtime_pollReset(pd *pollDesc, mode int) int {\n",
        "func poll_runtime_pollReset(pd *pollDesc, mode int) int {\n\tshareAfterIO()\n",
        "a goroutine that finds data each time shares its P"),
    Edit("runtime/os_wasm.go", "func getCPUCount() int32 {\n\treturn 1\n}\n", "", "the host knows the number of CPUs"),
    Edit("runtime/os_wasm.go", "type mOS struct{}\n", "", "an M needs a semaphore"),
    Edit("runtime/os_wasm.go", "func minit() {\n}\n", "", "every M needs a procid"),
    Edit(
        "runtime/os_wasm.go",
        '//\n//go:nowritebarrier\nfunc newosproc(mp *m) {\n\tthrow("newosproc: not implemented")\n}\n',
        "",
        "the host creates threads",
    ),
    Edit("runtime/os_wasm.go", "\nfunc osyield()\n", "", "yielding is a host call"),
    Edit("runtime/sys_wasm.s", "TEXT runtime·osyield(SB), NOSPLIT, $0-0\n\tUNDEF\n", "", "yielding is a host call"),
    Edit(
        "runtime/os_wasip1.go",
        "func usleep(usec uint32) {",
        "func stockUsleep(usec uint32) {",
        "the host can end a futex wait, but not poll_oneoff",
    ),
    Edit(
        "runtime/os_wasip1.go",
        "func walltime1() (",
        "//go:nosplit\nfunc walltime1() (",
        "called where the stack must not grow",
    ),
    Edit(
        "runtime/os_wasip1.go",
        "func nanotime1() int64 {",
        "//go:nosplit\nfunc nanotime1() int64 {",
        "called where the stack must not grow",
    ),
    Edit(
        "runtime/os_wasip1.go",
        "\treturn int64(time)\n}",
        "\treturn sameTime(int64(time))\n}",
        "each instance's clock may have its own zero, which is known only to a microsecond",
    ),
    # Files.
    Edit(
        "syscall/fs_wasip1.go",
        "stringslite.HasPrefix(path, p.name) {",
        "stringslite.HasPrefix(path, p.name) &&\n\t\t\t(isDir(p.name) || len(path) == len(p.name) || "
        "path[len(p.name)] == '/') {",
        "a mount at /data does not cover /database",
    ),
    # Pipes (syscall/pipe_gothreads.go), the current process, the name localhost.
    Edit("syscall/fs_wasip1.go", "func Pipe(fd []int) error {\n\treturn ENOSYS\n}\n", "", "the host creates pipes"),
    Edit(
        "os/pipe_wasm.go",
        '\t// Neither GOOS=js nor GOOS=wasip1 have pipes.\n\treturn nil, nil, NewSyscallError("pipe", '
        "syscall.ENOSYS)\n",
        '\tvar p [2]int\n\tif err := syscall.Pipe(p[:]); err != nil {\n\t\treturn nil, nil, NewSyscallError("pipe", '
        'err)\n\t}\n\treturn newFile(p[0], "|0", kindPipe, false), newFile(p[1], "|1", kindPipe, false), nil\n',
        "os.Pipe works as on systems with pipes",
    ),
    Edit(
        "syscall/syscall_wasip1.go",
        "\tProcExit(128 + int32(signum))\n",
        "\tif signum != 0 {\n\t\tProcExit(128 + int32(signum))\n\t}\n",
        "signal 0 only checks whether the process exists",
    ),
    Edit(
        "net/hosts.go",
        "\t\t\treturn ipsCp, byName.canonicalName\n\t\t}\n\t}\n",
        "\t\t\treturn ipsCp, byName.canonicalName\n\t\t}\n\t}\n"
        '\tif isLocalhost(host) {\n\t\treturn []string{"127.0.0.1", "::1"}, absDomainName(host)\n\t}\n',
        "localhost is this machine, even without /etc/hosts (RFC 6761) and DNS",
    ),
    # Stack guards. A function with a large frame compares SP with the guard plus the frame's size, in 32 bits. With a
    # poisoned guard at the very top the sum wraps around: the check passes, and the frame lies below the stack. So the
    # poison is lower: above any address that a stack can have (layout.MOST_MEMORY), with room above it for any frame.
    *(
        Edit(
            "runtime/stack.go",
            f"{name} = uintptrMask & -{value}\n",
            f"{name} = 0xf0001000 - {value}\n",
            "a poisoned guard must not wrap in 32 bits",
        )
        for name, value in (
            ("stackPreempt", 1314),
            ("stackFork", 1234),
            ("stackForceMove", 275),
            ("stackPoisonMin", 4096),
        )
    ),
    # The scheduler.
    Edit(
        "runtime/proc.go",
        'const haveSysmon = GOARCH != "wasm"',
        "const haveSysmon = true",
        "sysmon retakes Ps and forces GCs and preemption",
    ),
    Edit(
        "runtime/proc.go",
        'if GOARCH == "wasm" { // no threads on wasm yet',
        'if GOOS == "js" { // no threads on js',
        "the template thread",
    ),
    Edit(
        "runtime/proc.go",
        'if GOARCH == "wasm" { // no threads yet on wasm',
        'if GOOS == "js" { // no threads on js',
        "a goroutine that exits while locked to its thread ends the thread",
    ),
    Edit(
        "runtime/proc.go",
        'if GOARCH == "wasm" {\n\t\treturn // no threads on wasm yet',
        'if GOOS == "js" {\n\t\treturn // no threads on js',
        "LockOSThread, UnlockOSThread",
        count=2,
    ),
    Edit(
        "runtime/proc.go",
        '(iscgo || GOOS == "windows") && !cgoHasExtraM',
        '(iscgo || GOARCH == "wasm") && !cgoHasExtraM',
        "callers get extra Ms",
        count=2,
    ),
    Edit(
        "runtime/proc.go",
        "\tmp, last := getExtraM()\n",
        "\tmp, last := takenM()\n",
        "needm runs on the M's own g0 stack, so the M is taken before it",
    ),
    Edit(
        "runtime/proc.go",
        "\tg0.stack.hi = 0\n\tg0.stack.lo = 0\n\tg0.stackguard0 = 0\n\tg0.stackguard1 = 0\n",
        '\tif GOARCH != "wasm" {\n\t\tg0.stack.hi = 0\n\t\tg0.stack.lo = 0\n\t\tg0.stackguard0 = '
        "0\n\t\tg0.stackguard1 = 0\n\t}\n",
        "an M that dropm gives back keeps its g0 stack, which is not its thread's",
    ),
    Edit(
        "runtime/proc.go",
        'if (islibrary || isarchive) && GOARCH != "wasm" {',
        "if islibrary || isarchive || hasCallers {",
        "a module that waits for callers is not deadlocked",
    ),
    Edit(
        "runtime/proc.go",
        "\tneedUnlock = false\n\tunlockOSThread()\n\n\tif isarchive || islibrary {",
        "\tneedUnlock = false\n\tunlockOSThread()\n\n\tinitialized()\n\n\tif isarchive || islibrary {",
        "from here on, the module can be called",
    ),
    Edit(
        "runtime/proc.go",
        'pause(sys.GetCallerSP() - 16) // should not return\n\t\t\tpanic("unreachable")\n',
        "return\n",
        "a library's first thread becomes a scheduler thread, as in native libraries",
    ),
    Edit(
        "runtime/proc.go",
        "\t\t\tpreemptall()\n\t\t}\n\t}\n\n\tfinish := nanotime()\n",
        "\t\t\tpreemptall()\n\t\t\tif stopSyscalls() {\n\t\t\t\tbreak\n\t\t\t}\n\t\t}\n\t}\n\n\tfinish := nanotime()\n",
        "stopping the world must include system calls that began meanwhile: syscall_gothreads.go",
        since="1.26",
    ),
    Edit(
        "runtime/proc.go",
        "func goschedImpl(gp *g, preempted bool) {\n",
        "func goschedImpl(gp *g, preempted bool) {\n\trunHandlers()\n",
        "a thread that runs a call lets the host run signal handlers: threads_gothreads.go",
    ),
    # Preemption of loops: the rules are in preempt_gothreads.go.
    Edit(
        "runtime/proc.go",
        "func goschedguarded() {\n\tmcall(goschedguarded_m)\n}",
        "func goschedguarded() {\n\tgetg().m.loopCheckPC = "
        "sys.GetCallerPC()\n\tmcall(goschedguarded_m)\n\tgetg().asyncSafePoint = false\n}",
        "the stack map at a loop's check is incomplete: a goroutine stopped there is scanned conservatively, not moved",
    ),
    Edit(
        "runtime/proc.go",
        "\tif !canPreemptM(gp.m) {\n\t\tgogo(&gp.sched) // never return\n\t}\n",
        "\tif profLoop(gp) {\n\t\tgogo(&gp.sched) // never return\n\t}\n"
        "\tif canPreemptM(gp.m) {\n\t\trunHandlers()\n\t}\n"
        "\tif !canPreemptM(gp.m) || !loopSafePoint(gp.m.loopCheckPC) {\n\t\tgogo(&gp.sched) // never "
        "return\n\t}\n\tgp.asyncSafePoint = true\n",
        "a loop's check stops only where Go's own asynchronous preemption would; signal handlers may run elsewhere, "
        "and samples be taken: prof_gothreads.go",
    ),
    Edit(
        "runtime/mgcmark.go",
        "isAsyncPreempt := frame.fn.valid() && frame.fn.funcID == abi.FuncID_asyncPreempt\n",
        "isAsyncPreempt := frame.fn.valid() && (frame.fn.funcID == abi.FuncID_asyncPreempt || isLoopCheck(frame.fn))\n",
        "a loop's check is scanned like an asynchronous preemption",
    ),
    # CPU profiles: prof_gothreads.go.
    Edit(
        "runtime/os_wasm.go",
        "func setProcessCPUProfiler(hz int32) {}\nfunc setThreadCPUProfiler(hz int32)  {}\n",
        "",
        "goroutines take samples at their checks",
    ),
    Edit("runtime/proc.go", "\t\tusleep(delay)\n", "\t\tusleep(profSleep(delay))\n",
         "sysmon asks for samples as often as the profile wants them"),
    Edit("runtime/proc.go", "\t\tif retake(now) != 0 {\n", "\t\tprofAsk(now)\n\t\tif retake(now) != 0 {\n",
         "sysmon asks for samples"),
    Edit(
        "runtime/proc.go",
        "\tgp.stackguard0 = gp.stack.lo + stackGuard\n\tif !inheritTime {\n",
        "\tgp.stackguard0 = gp.stack.lo + stackGuard\n\tif mp.profDue.Load() != 0 {\n\t\tmp.profDue.Store(0)\n\t}\n"
        "\tif !inheritTime {\n",
        "samples that a goroutine owes are not the next one's",
    ),
    Edit(
        "runtime/stack.go",
        "\tpreempt := stackguard0 == stackPreempt\n",
        "\tpreempt := stackguard0 == stackPreempt\n\tif preempt && profPrologue(gp, morebuf.pc, morebuf.sp) {\n"
        "\t\tgogo(&gp.sched) // never return\n\t}\n",
        "goroutines take samples at their checks",
    ),
    Edit(
        "runtime/stack.go",
        "\tcasgstatus(gp, _Gcopystack, _Grunning)\n",
        "\tcasgstatus(gp, _Gcopystack, _Grunning)\n\tprofGrown(gp)\n",
        "moving a stack is charged to the goroutine that needs it",
    ),
    Edit(
        "runtime/asm_wasm.s",
        "\t// switch back to g\n\tMOVD g_m(g), R1\n\tMOVD m_curg(R1), R2\n",
        "\tMOVD g_m(g), R1\n\tGet R1\n\tI32WrapI64\n\tI32Load $(m_mOS+mOS_profDue)\n\tIf\n"
        "\t\tCALLNORESUME runtime·profSystemStack(SB)\n\tEnd\n"
        "\t// switch back to g\n\tMOVD g_m(g), R1\n\tMOVD m_curg(R1), R2\n",
        "time on the system stack is charged to the goroutine that needed it",
    ),
    # Profiles that the host takes: profile_gothreads.go.
    Edit("runtime/cpuprof.go", "\t} else if cpuprof.on {\n", "\t} else if cpuprof.on && !hostProfiles {\n",
         "the program does not end the host's profile"),
    Edit(
        "runtime/cpuprof.go",
        "\tlog := cpuprof.log\n",
        "\tlog := cpuprof.log\n\tif hostProfiles || log == nil {\n\t\tunlock(&cpuprof.lock)\n"
        "\t\treturn emptyProfile[:], overflowTag[:1], true\n\t}\n",
        "the program does not read the host's profile",
    ),
    Edit(
        "runtime/proc.go",
        "\tif disableMemoryProfiling {\n",
        '\tif disableMemoryProfiling && stringslite.Index(gogetenv("GODEBUG"), "memprofilerate=") < 0 {\n',
        "who asks for samples of allocations gets them: the host can read them",
    ),
    Edit(
        "runtime/mgcpacer.go",
        "c.heapMinimum = defaultHeapMinimum * uint64(in) / 100",
        "c.heapMinimum = leastHeap(c) * uint64(in) / 100",
        "small heaps are collected less often: heap_gothreads.go",
    ),
    # Recursion: the reasons are in recursion_gothreads.go.
    Edit(
        "runtime/asm_wasm.s",
        "\t\t\t// Get PC_B & PC_F from -8(SP)\n",
        "\t\t\tI32Const $0\n\t\t\tCall runtime·rebase(SB)\n\t\t\tDrop\n\n\t\t\t// Get PC_B & PC_F from -8(SP)\n",
        "what runs next begins with an empty WebAssembly stack",
    ),
    Edit(
        "runtime/asm_wasm.s",
        "\t\t\t// Get PC_F & PC_B from -8(SP)\n",
        "\t\t\tI32Const $0\n\t\t\tCall runtime·rebase(SB)\n\t\t\tDrop\n\n\t\t\t// Get PC_F & PC_B from -8(SP)\n",
        "what runs next begins with an empty WebAssembly stack",
    ),
    Edit(
        "runtime/stack.go",
        "\t// Allocate a bigger segment and move the stack.\n\toldsize := gp.stack.hi - gp.stack.lo\n",
        "\tif hasRoom(gp) && stackguard0 != stackForceMove {\n\t\tgogo(&gp.sched) // never return\n\t}\n\n"
        "\t// Allocate a bigger segment and move the stack.\n\toldsize := gp.stack.hi - gp.stack.lo\n",
        "unwinding the WebAssembly stack was enough: Go's stack need not grow",
    ),
    Edit(
        "runtime/proc.go",
        "\t\t\tgp.stackguard0 = gp.stack.lo + stackGuard\n\t\t}\n\t\tgp.throwsplit = false\n",
        "\t\t\tgp.stackguard0 = windowGuard(gp)\n\t\t}\n\t\tgp.throwsplit = false\n",
        "a system call does not empty the WebAssembly stack",
    ),
    Edit(
        "runtime/proc.go",
        "maxstacksize = 1000000000\n",
        "maxstacksize = 64000000\n",
        "a gigabyte is a quarter of all memory, which never shrinks",
    ),
    Edit("runtime/debug.go", 'if GOARCH == "wasm" && n > 1 {', 'if GOOS == "js" && n > 1 {', "GOMAXPROCS may exceed 1"),
    Edit(
        "runtime/cgocall.go",
        "\tif !mp.isextra {\n",
        '\tif GOARCH == "wasm" || !mp.isextra {\n',
        "an extra M's g0 stack is in linear memory, from malg: its bounds are known",
    ),
    Edit(
        "runtime/mgcmark.go",
        "\tif gp.sched.ctxt != nil {\n",
        "\tif gp.syscallsp != 0 && !useCheckmark {\n\t\t// gothreads: outgoing arguments of a host call, which no "
        "stack map covers.\n\t\t// What is dead there was not yet when it was marked: checking would find it.\n"
        "\t\tscanConservative(gp.syscallsp, min(64*goarch.PtrSize, gp.stack.hi-gp.syscallsp), nil, gcw, &state)\n\t}\n"
        "\tif gp.sched.ctxt != nil {\n",
        "pointers that only a blocking host call holds stay alive",
    ),
    Edit(
        "os/user/lookup_stubs.go",
        '\tcase "android":\n',
        '\tcase "wasip1":\n\t\tif u.Username == "" {\n\t\t\tu.Username = "gothreads"\n\t\t}\n'
        '\t\tif u.HomeDir == "" {\n\t\t\tu.HomeDir = "/"\n\t\t}\n\tcase "android":\n',
        "the sandbox has a user of its own, as Android does",
    ),
    # Without the edit, Start fails where it opens /dev/null. errors.Is finds exec.ErrNotFound and syscall.ENOSYS as
    # before.
    Edit(
        "os/exec/exec.go",
        "func (c *Cmd) Start() error {\n",
        'func (c *Cmd) Start() error {\n\tif runtime.GOOS == "wasip1" {\n\t\terr := c.Err\n\t\tif err == nil {\n'
        "\t\t\terr = &Error{c.Path, syscall.ENOSYS}\n\t\t}\n"
        f'\t\treturn os.NewSyscallError("{_EXEC}", err)\n\t}}\n',
        "a program that starts another is told how to reach it",
    ),
)

#: Signals: goroot/runtime/signal_gothreads.go.
SIGNAL_EDITS: tuple[Edit, ...] = (
    Edit("runtime/os_wasm.go", "const _NSIG = 0\n", "const _NSIG = 65\n", "the host has signals"),
    *(Edit("runtime/os_wasm.go", f"func {name}(uint32){space}{{}}\n", "", "the host has signals")
      for name, space in (("sigdisable", " " * 14), ("sigenable", " " * 15), ("sigignore", " " * 15))),
    Edit("runtime/sigqueue.go", "\t\t\t\t\tnotetsleepg(&sig.note, -1)\n", "\t\t\t\t\tsignalPark()\n",
         "a goroutine in a system call seems to be at work"),
    Edit("syscall/syscall_wasip1.go", "\tif signum != 0 {\n\t\tProcExit(128 + int32(signum))\n\t}\n",
         "\tif signum != 0 && signal_raise(int32(signum)) == 0 {\n\t\tProcExit(128 + int32(signum))\n\t}\n",
         "it may have a handler"),
)
