//go:build wasip1 && go1.26

package runtime

// stopSyscalls takes the Ps of goroutines in system calls, while the caller stops the world and waits. It reports
// whether that has stopped all Ps. Stock Go does this once, after it has set gcwaiting. But since Go 1.26 a goroutine
// that enters a system call checks gcwaiting before its status shows the call:
//
//	system call                        stopping the world
//	S1 loads gcwaiting: false          W1 sets gcwaiting
//	S2 is in _Gsyscall, with its P     W2 looks for system calls
//	                                   W3 waits, and preempts
//
// With S1 before W1 and W2 before S2, only sysmon could take that P. But sysmon sleeps because of gcwaiting: for at
// least a minute, or until the system call ends. If that waits for another goroutine, as a host function does that
// calls an export, it never ends. (A due timer wakes sysmon; so does the next system call of a native program.) So W3
// looks again every 100 µs.
//
// Any other thread that stops the last P sets stopnote under the same lock. So either stopwait is above 0 here and the
// note is not set, or the caller finds the note set when it next checks.
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
