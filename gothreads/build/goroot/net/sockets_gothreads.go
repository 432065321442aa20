//go:build wasip1

package net

import (
	"context"
	"os"
	"syscall"
)

// Sockets and names come from the host (gothreads/wasi/network.py).

func sysSocket(family, sotype, proto int) (int, error) {
	s, err := socketFunc(family, sotype, proto)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return s, nil
}

// refused is os.NewSyscallError. If the host's rules do not allow the address, the error says which option would.
func (fd *netFD) refused(call string, sa syscall.Sockaddr, err error) error {
	flag := "--allow-net"
	if call != "connect" && fd.sotype == syscall.SOCK_STREAM {
		flag = "--listen"
	}
	return wrapSyscallError(call, refusedBy(flag, call, sa, err))
}

// refusedBy adds the option that would allow the address to an error, if that says that no rule of the host does.
func refusedBy(flag, call string, sa syscall.Sockaddr, err error) error {
	if err == syscall.ENOTCAPABLE {
		rule := ruleFor(sa)
		if _, port, _ := SplitHostPort(rule); flag == "--listen" && isWildcard(sa) {
			rule += ", or for other machines too " + flag + " 0.0.0.0:" + port
		}
		return os.NewSyscallError(call+" (to allow it: "+flag+" "+rule+")", err)
	}
	return err
}

// isWildcard reports whether an address is that of all of the machine's interfaces.
func isWildcard(sa syscall.Sockaddr) bool {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return IP(sa.Addr[:]).IsUnspecified()
	case *syscall.SockaddrInet6:
		return IP(sa.Addr[:]).IsUnspecified()
	}
	return false
}

// ruleFor returns an address as the host's options take it.
func ruleFor(sa syscall.Sockaddr) string {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		ip := IP(sa.Addr[:])
		if ip.IsUnspecified() {
			ip = IPv4(127, 0, 0, 1)
		}
		return (&TCPAddr{IP: ip, Port: sa.Port}).String()
	case *syscall.SockaddrInet6:
		ip := IP(sa.Addr[:])
		if ip.IsUnspecified() {
			ip = IPv4(127, 0, 0, 1)
		}
		return (&TCPAddr{IP: ip, Port: sa.Port}).String()
	case *syscall.SockaddrUnix:
		return "unix:" + sa.Name
	}
	return "HOST:PORT"
}

// The host's resolver, where Unix has libc's.

const cgoAvailable = true

// net_lookup writes what a name or an address stands for, a line each, and returns a WASI error number.
//
//go:wasmimport gothreads net_lookup
func net_lookup(kind, name string, buffer *byte, size int32, length *int32) syscall.Errno

// lookUp asks the host for "ip", "ip4", "ip6", "cname" or "ptr". It returns when ctx ends: the host may take longer.
func lookUp(ctx context.Context, kind, name string) ([]string, error) {
	type answer struct {
		text  string
		errno syscall.Errno
	}
	done := make(chan answer, 1)
	go func() {
		buffer := make([]byte, 16384)
		var length int32
		errno := net_lookup(kind, name, &buffer[0], int32(len(buffer)), &length)
		done <- answer{string(buffer[:length]), errno}
	}()
	select {
	case a := <-done:
		switch a.errno {
		case 0:
			return getFields(a.text), nil
		case syscall.ENOENT:
			return nil, newDNSError(errNoSuchHost, name, "")
		case syscall.ENOTCAPABLE:
			err := newDNSError(os.NewSyscallError("lookup (to allow it: --allow-net "+name+":PORT)", a.errno), name, "")
			err.UnwrapErr = syscall.ENOTCAPABLE
			return nil, err
		}
		return nil, newDNSError(a.errno, name, "")
	case <-ctx.Done():
		return nil, newDNSError(mapErr(ctx.Err()), name, "")
	}
}

func cgoLookupHost(ctx context.Context, name string) ([]string, error) {
	return lookUp(ctx, "ip", name)
}

func cgoLookupPort(ctx context.Context, network, service string) (int, error) {
	return goLookupPort(network, service)
}

func cgoLookupIP(ctx context.Context, network, name string) ([]IPAddr, error) {
	kind := "ip"
	if version := ipVersion(network); version != 0 {
		kind += string(rune(version))
	}
	lines, err := lookUp(ctx, kind, name)
	if err != nil {
		return nil, err
	}
	addrs := make([]IPAddr, 0, len(lines))
	for _, line := range lines {
		host, zone := splitHostZone(line)
		if ip := ParseIP(host); ip != nil {
			addrs = append(addrs, IPAddr{IP: ip, Zone: zone})
		}
	}
	return addrs, nil
}

func lookUpCNAME(ctx context.Context, name string) (string, error) {
	lines, err := lookUp(ctx, "cname", name)
	if err != nil {
		return "", err
	}
	if len(lines) == 0 {
		return absDomainName(name), nil
	}
	return absDomainName(lines[0]), nil
}

func cgoLookupPTR(ctx context.Context, addr string) ([]string, error) {
	lines, err := lookUp(ctx, "ptr", addr)
	for i, line := range lines {
		lines[i] = absDomainName(line)
	}
	return lines, err
}
