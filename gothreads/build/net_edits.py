"""The edits that give package net the host's sockets. Longer code is in `goroot/{syscall,net,internal}`."""

from __future__ import annotations

from gothreads.build.edit import Edit


def _without(file: str, tags: str) -> Edit:
    """A file of the network in memory (package net on js), which wasip1 does not use here."""
    return Edit(file, f"//go:build {tags} || wasip1\n", f"//go:build {tags}\n", "sockets are the host's")


def _with(file: str, tags: str) -> Edit:
    """A file for Unix that serves wasip1 too, as the host has sockets."""
    return Edit(file, f"//go:build {tags}\n", f"//go:build {tags} || wasip1\n", "sockets are the host's")


#: Package net uses its code for Unix, on the sockets that syscall has here (goroot/syscall/net_gothreads.go).
NET_EDITS: tuple[Edit, ...] = (
    *(_without(f"{file}.go", "js") for file in (
        "syscall/net_fake", "net/net_fake", "net/fd_fake", "net/sockopt_fake", "net/sockoptip_stub",
        "net/tcpsockopt_stub")),
    _without("net/cgo_stub.go", "(netgo && unix) || (unix && !cgo && !darwin) || js"),
    *(_with(f"{file}.go", "unix") for file in ("net/fd_unix", "net/file_unix", "internal/poll/sockopt_unix")),
    *(_with(f"{file}.go", "unix || windows") for file in (
        "net/fd_posix", "net/file_posix", "net/sock_posix", "net/sockopt_posix", "net/sockoptip6_posix",
        "net/tcpsockopt_posix",
        "internal/poll/sockopt", "internal/poll/sockoptip")),
    _with("net/tcpsockopt_unix.go", "aix || dragonfly || freebsd || illumos || linux || netbsd"),
    _without("net/interface_stub.go", "js"),
    Edit("net/udpsock_posix.go", "gaddr *UDPAddr) (*UDPConn, error) {\n",
         "gaddr *UDPAddr) (*UDPConn, error) {\n\tif errMulticast != nil {\n\t\treturn nil, errMulticast\n\t}\n",
         "an error that says why, in place of one about an option of sockets"),
    _without("internal/poll/sys_cloexec.go", "aix || darwin || (js && wasm)"),
    Edit("internal/poll/fd_wasip1.go", 'return -1, "dup", syscall.ENOSYS',
         'fd, err := syscall.Dup(fd)\n\treturn fd, "dup", err',
         "the host duplicates descriptors"),
    Edit("syscall/fs_wasip1.go", "func Dup(fd int) (int, error) {\n\treturn 0, ENOSYS\n}\n", "",
         "the host duplicates descriptors"),
    Edit("net/sock_posix.go", 'os.NewSyscallError("bind", err)', 'fd.refused("bind", lsa, err)',
         "errors name the option that would allow it", count=3),
    Edit("net/sock_posix.go", '\t"os"\n', "", "the next edits leave no use of it"),
    Edit("net/sock_posix.go", 'os.NewSyscallError("listen", err)', 'fd.refused("listen", lsa, err)',
         "errors name the option that would allow it"),
    Edit("net/fd_unix.go",
         '\tdefault:\n\t\treturn nil, os.NewSyscallError("connect", err)\n\t}\n\tif err := fd.pfd.Init',
         '\tdefault:\n\t\treturn nil, fd.refused("connect", ra, err)\n\t}\n\tif err := fd.pfd.Init',
         "errors name the option that would allow it"),
    *(Edit("net/fd_posix.go", f"{call}, sa)\n", f'{call}, sa)\n\terr = refusedBy("--allow-net", "send", sa, err)\n',
           "errors name the option that would allow it")
      for version in (4, 6) for call in (f"fd.pfd.WriteToInet{version}(p", f"fd.pfd.WriteMsgInet{version}(p, oob")),
    Edit("net/conf.go", 'case "windows", "plan9":\n\t\treturn true\n',
         'case "windows", "plan9", "wasip1":\n\t\treturn true\n', "the host resolves names"),
    Edit("net/unixsock_posix.go", "unlink: true}", "unlink: false}",
         "the host removes the socket, whose path is not the program's"),
    Edit("syscall/syscall_wasip1.go", "return e == EACCES || e == EPERM",
         "return e == EACCES || e == EPERM || e == ENOTCAPABLE", "it is the host's refusal"),
    Edit("syscall/tables_wasip1.go", '"Capabilities insufficient"', '"not allowed by the host"', "plain"),
)
