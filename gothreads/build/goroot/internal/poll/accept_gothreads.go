//go:build wasip1

package poll

import "syscall"

// accept returns a connection, which the host has made non-blocking.
func accept(s int) (int, syscall.Sockaddr, string, error) {
	ns, sa, err := AcceptFunc(s)
	if err != nil {
		return -1, nil, "accept", err
	}
	return ns, sa, "", nil
}

func (fd *FD) SetsockoptIPMreqn(level, name int, mreq *syscall.IPMreqn) error {
	if err := fd.incref(); err != nil {
		return err
	}
	defer fd.decref()
	return syscall.SetsockoptIPMreqn(fd.Sysfd, level, name, mreq)
}
