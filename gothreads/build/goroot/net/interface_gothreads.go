//go:build wasip1

package net

import "errors"

// The program has one interface: loopback. What other interfaces the host has is not for it to know.

var loopback = Interface{Index: 1, MTU: 65536, Name: "lo", Flags: FlagUp | FlagLoopback | FlagRunning}

func interfaceTable(ifindex int) ([]Interface, error) {
	if ifindex != 0 && ifindex != loopback.Index {
		return nil, nil
	}
	return []Interface{loopback}, nil
}

func interfaceAddrTable(ifi *Interface) ([]Addr, error) {
	if ifi != nil && ifi.Index != loopback.Index {
		return nil, nil
	}
	return []Addr{&IPNet{IP: IPv4(127, 0, 0, 1), Mask: CIDRMask(8, 32)},
		&IPNet{IP: IPv6loopback, Mask: CIDRMask(128, 128)}}, nil
}

func interfaceMulticastAddrTable(ifi *Interface) ([]Addr, error) { return nil, nil }

var errMulticast = errors.New("the host passes on no multicast: a module's sockets have single addresses")
