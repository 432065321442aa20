package wire

import "unsafe"

// A large argument lies in its message. The next message may lie there, too, if nothing has kept the argument, and Go's
// compiler knows whether that is so: it leaves a variable on the stack only if no pointer to it can outlive the function
// that declares it. So generated code has a variable that, for all the compiler can tell, may be what the arguments
// are slices of, and looks where that variable is:
//
//	func(c *gothreads_wire.Call, gothreads_base gothreads_wire.Base) {
//		...
//		if r.Shares() {
//			var gothreads_probe gothreads_wire.Probe
//			if r.Ends(&gothreads_probe, &gothreads_base) {
//				a0 = gothreads_wire.Probed[float64](&gothreads_probe)
//			}
//		}
//		v0 := Sum(a0)
//		w := &c.Out
//		w.Float(v0)
//	}
//
// Invariant: a message of which arguments are slices is only used again if the probe is on the stack, and after this
// function has been left. Then whatever was done with a0 here would be right with memory that has gone with the frame: no
// global, goroutine, closure, iterator, error, panic or reply has it. Else the message is the arguments' as long as
// something refers to them.
//
//	the call                                    the slot
//	C1 payload: the message has its memory      S1 that memory is in no other place
//	C2 the function runs; nobody waits for it   S2 other calls of the slot, from within this one, get other memory
//	   any more, perhaps, or it waits
//	C3 this function is left                    S3 the slot may give the memory to the next message
//
// There is no S3 without C3: the goroutine that runs the function does both. And a collection between S3 and the next
// message frees the memory, since the slot has a weak pointer.

// A Probe stands for the memory of a message.
type Probe [1]uint64

// Base is a parameter of generated code, whose address is above that of its variables. (In a register it would be one of
// these; then memory is not used again.)
type Base uintptr

// Taken is false. But the compiler cannot rely on that.
var Taken bool

// Shares reports whether an argument lies in the message.
func (r *Reader) Shares() bool { return r.shared }

// Ends notes that arguments end with the function that declares the probe, if that is on the stack. It returns Taken.
//
// No pointer to here or to base is kept, so they are on the stack, and so is all that is between them. The stack does
// not move while they are compared: it moves in calls, and where loops are preempted.
//
//go:noinline
func (r *Reader) Ends(p *Probe, base *Base) bool {
	var here byte
	if at := uintptr(unsafe.Pointer(p)); uintptr(unsafe.Pointer(&here)) < at && at < uintptr(unsafe.Pointer(base)) {
		r.shared = false
	}
	return Taken
}

// Probed returns the probe as an argument.
func Probed[T Number](p *Probe) []T { return unsafe.Slice((*T)(unsafe.Pointer(p)), 1) }
