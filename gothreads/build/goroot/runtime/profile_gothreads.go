//go:build wasip1

package runtime

import "unsafe"

// Profiles that the host takes of a running module (gothreads/runtime/profiler.py), whether or not the program imports
// runtime/pprof. This side hands out numbers: stacks as PCs, and what is at a PC. The host makes a profile of them. So
// nothing here formats, compresses or waits, and the module is a few kilobytes larger.
//
// Invariants:
//
//  1. The host asks one question at a time, on a caller of its own, so that it is answered even when all others wait.
//     What an answer points to stays until the next question.
//  2. A CPU profile is either the host's (hostProfiles, guarded by cpuprof.lock) or the program's: a profBuf has one
//     reader. While it is the host's, the program's calls neither stop nor read it (the edits of cpuprof.go); it gets a
//     profile without samples.
//
//     host      H1 it is off: hostProfiles = on = true   H2 all is read: hostProfiles = false, log = nil
//     program   P1 it is on: prints that it cannot       P2 readProfile gets emptyProfile: hostProfiles, or log is nil
//
//     If P1 comes before H1, H1 finds that the program profiles itself, and changes nothing. If P2 comes after H2, there
//     is no log; without a header, runtime/pprof would panic.
//  3. Nothing here refers to MemProfile: the linker turns samples of allocations off in programs that do not, and they
//     shall not pay for what nobody reads. The host can turn them on.

// Questions of the host, in the order of gothreads.runtime.profiler.Question.
const (
	askStart   = iota // a CPU profile: w[0] samples a second. 0: it is the program's turn
	askStop           // no more samples
	askSamples        // w: address and number of words, address and number of labels; 0: there are no more
	askRates          // of allocations, blocking, locks: w has the new ones, or -1; and then the old ones
	askRecords        // w[0]: which. w: address and number of words
	askFrame          // w[0]: a PC. w: the name's address and length, the file's, the line, the function's line
	askTrace          // begin a trace. 0: it is the program's turn
	askUntrace        // end it. 0: it is not the host's
	askTraced         // w: address and number of bytes. 0: there are no more
	askForget         // what the last answer pointed to
)

type profileWords [6]uint64

//go:wasmexport gothreads_profile
func gothreadsProfile(question uint32, at unsafe.Pointer) bool {
	w := (*profileWords)(at)
	hostRecords = nil
	switch question {
	case askStart:
		return profileStart(int32(w[0]))
	case askStop:
		profileStop()
	case askSamples:
		return profileSamples(w)
	case askRates:
		profileRates(w)
	case askRecords:
		profileRecords(w)
	case askFrame:
		profileFrame(w)
	case askTrace:
		hostTraces = StartTrace() == nil
		return hostTraces
	case askUntrace:
		if !hostTraces {
			return false
		}
		hostTraces = false
		go StopTrace() // it waits until all has been read
	case askTraced:
		return profileTraced(w)
	}
	return true
}

var (
	hostProfiles bool     // guarded by cpuprof.lock
	hostTraces   bool     // the trace is the host's
	hostRecords  []uint64 // what profileRecords has answered
	// emptyProfile is what the program reads while the host takes a profile: a header, in which 100 is the rate.
	emptyProfile = [3]uint64{3, 0, 100}
)

func profileStart(hz int32) bool {
	profileStop() // one that the host has lost
	for profileSamples(&profileWords{}) {
	}
	log := newProfBuf(1, profBufWordCount, profBufTagCount)
	lock(&cpuprof.lock)
	if cpuprof.on || cpuprof.log != nil {
		unlock(&cpuprof.lock)
		return false
	}
	hostProfiles, cpuprof.on, cpuprof.log = true, true, log
	setcpuprofilerate(hz)
	unlock(&cpuprof.lock)
	return true
}

func profileStop() {
	lock(&cpuprof.lock)
	if hostProfiles && cpuprof.on {
		setcpuprofilerate(0)
		cpuprof.on = false
		cpuprof.log.close()
	}
	unlock(&cpuprof.lock)
}

// profileSamples hands out records of cpuprof.log as they are: the number of words, time, count, stack; for each there
// is a label.
func profileSamples(w *profileWords) bool {
	lock(&cpuprof.lock)
	log := cpuprof.log
	if !hostProfiles {
		log = nil
	}
	unlock(&cpuprof.lock)
	*w = profileWords{}
	data, labels, ended := log.read(profBufNonBlocking)
	if ended {
		lock(&cpuprof.lock)
		if hostProfiles {
			hostProfiles, cpuprof.log = false, nil
		}
		unlock(&cpuprof.lock)
		return false
	}
	w[0], w[1] = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data)))), uint64(len(data))
	w[2], w[3] = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(labels)))), uint64(len(labels))
	return true
}

// profileRates sets the rates that are not negative. The rate of allocations is what MemProfileRate says; where the
// linker has turned it off, it is 0 until the host sets it.
func profileRates(w *profileWords) {
	heap, block, mutex := int64(w[0]), int64(w[1]), int64(w[2])
	w[0], w[1], w[2] = uint64(MemProfileRate), blockprofilerate, mutexprofilerate
	if heap >= 0 {
		MemProfileRate = int(heap)
	}
	if block >= 0 {
		SetBlockProfileRate(int(block))
	}
	if mutex >= 0 {
		SetMutexProfileFraction(int(mutex))
	}
}

// profileRecords hands out all records of a kind: how many words follow, then three figures (of allocations: how many,
// how many of them are freed, their size; else: how often, for how long, 0), then the stack. Those of allocations are
// as the garbage collection left them that it runs first.
func profileRecords(w *profileWords) {
	kind := bucketType(w[0])
	first := &mbuckets
	switch kind {
	case blockProfile:
		first = &bbuckets
	case mutexProfile:
		first = &xbuckets
	default:
		GC()
	}
	// There are only ever more of them.
	room := 64
	for b := (*bucket)(first.Load()); b != nil; b = b.allnext {
		room += 4 + int(b.nstk)
	}
	hostRecords = make([]uint64, 0, room+room/8)
	mu := &profBlockLock
	if kind == memProfile {
		mu = &profMemActiveLock
	}
	lock(mu) // from here on, nothing allocates
	if kind == memProfile {
		index := mProfCycle.read() % uint32(len(memRecord{}.future))
		lock(&profMemFutureLock[index])
		mProf_FlushLocked(index)
		unlock(&profMemFutureLock[index])
	}
	for b := (*bucket)(first.Load()); b != nil; b = b.allnext {
		if len(hostRecords)+4+int(b.nstk) > cap(hostRecords) {
			break // it is new
		}
		var figures [3]uint64
		if kind == memProfile {
			active := &b.mp().active
			figures = [3]uint64{uint64(active.allocs), uint64(active.frees), uint64(b.size)}
		} else {
			figures = [3]uint64{uint64(b.bp().count), uint64(b.bp().cycles), 0}
		}
		hostRecords = append(hostRecords, uint64(3+b.nstk), figures[0], figures[1], figures[2])
		for _, pc := range b.stk() {
			hostRecords = append(hostRecords, uint64(pc))
		}
	}
	unlock(mu)
	w[0], w[1] = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(hostRecords)))), uint64(len(hostRecords))
}

// profileFrame says what is at a PC of a stack. Stacks have an entry for each inlined call, so one PC is one frame.
// Names are in the linker's tables, which stay.
func profileFrame(w *profileWords) {
	pc := uintptr(w[0])
	*w = profileWords{}
	f := findfunc(pc)
	if !f.valid() {
		return
	}
	if pc > f.entry() {
		pc-- // from where the call returns to the call
	}
	u, uf := newInlineUnwinder(f, pc)
	function := u.srcFunc(uf)
	name := function.name()
	file, line := u.fileLine(uf)
	w[0], w[1] = uint64(uintptr(unsafe.Pointer(unsafe.StringData(name)))), uint64(len(name))
	w[2], w[3] = uint64(uintptr(unsafe.Pointer(unsafe.StringData(file)))), uint64(len(file))
	w[4], w[5] = uint64(line), uint64(function.startLine)
}

// profileTraced is ReadTrace, except that it does not wait. It must be asked until there is no more.
func profileTraced(w *profileWords) bool {
	*w = profileWords{}
	var buf []byte
	var wait bool
	systemstack(func() { buf, wait = readTrace0() })
	if buf == nil && !wait {
		return false
	}
	if !isTraceSignal(buf) {
		w[0], w[1] = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(buf)))), uint64(len(buf))
	}
	return true
}
