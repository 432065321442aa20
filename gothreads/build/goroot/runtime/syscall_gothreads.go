//go:build wasip1 && go1.26

package runtime

// stopSyscalls takes the Ps of goroutines that are in system calls, for who stops the world and waits; it says whether all have stopped by that.
// Stock Go does it once, after it has set gcwaiting. But since 1.26 who enters a system call looks at gcwaiting before its state says so:
//
//	system call S1 loads gcwaiting: false          stop W1 sets gcwaiting   W2 looks for system calls   W3 waits, and preempts
//	            S2 is in _Gsyscall, with its P
//
// With S1 before W1 and W2 before S2, nobody takes that P but sysmon, which has lain down because of gcwaiting: for a minute at the least, or until
// the system call ends. If that waits for another goroutine, as a host function does that calls an export, it never does. (A timer that is due
// wakes sysmon; so does a native program's next system call.) So W3 looks again, every 100 µs.
//
// Whoever else stops the last P sets stopnote under the same lock. So either stopwait is more than 0 here, and the note is not set, or the next
// look at the note finds it.
func stopSyscalls() bool {
	lock(&sched.lock)
	waited := sched.stopwait > 0
	if waited {
		for _, pp := range allp {
			if thread, ok := setBlockOnExitSyscall(pp); ok {
				thread.gcstopP()
				thread.resume()
			}
		}
	}
	stopped := waited && sched.stopwait == 0
	unlock(&sched.lock)
	return stopped
}
