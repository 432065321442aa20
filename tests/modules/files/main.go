// Command files does with files what it is told, an operation a request, and says what package os said.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"gothreads/guest"
)

type args []any

func (a args) s(i int) string { return a[i].(string) }

func (a args) n(i int) int64 {
	n, err := a[i].(json.Number).Int64()
	if err != nil {
		panic(err)
	}
	return n
}

// file is one that was opened by an earlier request.
func (a args) file(i int) *os.File {
	f, _ := opened.Load(a.n(i))
	return f.(*os.File)
}

type operation func(t tree, a args) (any, error)

type outcome struct {
	Value any
	Error string
	Is    []string
}

var (
	opened sync.Map // of *os.File by number
	last   atomic.Int64
	known  = map[string]error{
		"ErrNotExist": fs.ErrNotExist, "ErrExist": fs.ErrExist, "ErrPermission": fs.ErrPermission, "ErrInvalid": fs.ErrInvalid, "EOF": io.EOF,
		"EACCES": syscall.EACCES, "EBADF": syscall.EBADF, "EEXIST": syscall.EEXIST, "EFAULT": syscall.EFAULT, "EFBIG": syscall.EFBIG,
		"EILSEQ": syscall.EILSEQ, "EINVAL": syscall.EINVAL, "EIO": syscall.EIO, "EISDIR": syscall.EISDIR, "ELOOP": syscall.ELOOP,
		"ENAMETOOLONG": syscall.ENAMETOOLONG, "ENOENT": syscall.ENOENT, "ENOSPC": syscall.ENOSPC, "ENOSYS": syscall.ENOSYS,
		"ENOTCAPABLE": syscall.ENOTCAPABLE, "ENOTDIR": syscall.ENOTDIR, "ENOTEMPTY": syscall.ENOTEMPTY, "EOVERFLOW": syscall.EOVERFLOW,
		"EPERM": syscall.EPERM, "EPIPE": syscall.EPIPE, "EROFS": syscall.EROFS, "EXDEV": syscall.EXDEV,
	}
	flags = map[string]int{
		"RDONLY": os.O_RDONLY, "WRONLY": os.O_WRONLY, "RDWR": os.O_RDWR, "APPEND": os.O_APPEND, "CREATE": os.O_CREATE, "EXCL": os.O_EXCL,
		"SYNC": os.O_SYNC, "TRUNC": os.O_TRUNC,
	}
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "letters" {
		letters()
		return
	}
	select {}
}

// A tree is what package os and *os.Root have in common.
type tree interface {
	Chtimes(name string, atime, mtime time.Time) error
	FS() fs.FS
	Link(name, other string) error
	Lstat(name string) (fs.FileInfo, error)
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	ReadFile(name string) ([]byte, error)
	Readlink(name string) (string, error)
	Remove(name string) error
	RemoveAll(name string) error
	Rename(name, other string) error
	Stat(name string) (fs.FileInfo, error)
	Symlink(target, name string) error
	WriteFile(name string, data []byte, perm fs.FileMode) error
}

type system struct{}

func (system) Chtimes(n string, a, m time.Time) error            { return os.Chtimes(n, a, m) }
func (system) FS() fs.FS                                         { return os.DirFS(".") }
func (system) Link(n, o string) error                            { return os.Link(n, o) }
func (system) Lstat(n string) (fs.FileInfo, error)               { return os.Lstat(n) }
func (system) Mkdir(n string, p fs.FileMode) error               { return os.Mkdir(n, p) }
func (system) MkdirAll(n string, p fs.FileMode) error            { return os.MkdirAll(n, p) }
func (system) ReadFile(n string) ([]byte, error)                 { return os.ReadFile(n) }
func (system) Readlink(n string) (string, error)                 { return os.Readlink(n) }
func (system) Remove(n string) error                             { return os.Remove(n) }
func (system) RemoveAll(n string) error                          { return os.RemoveAll(n) }
func (system) Rename(n, o string) error                          { return os.Rename(n, o) }
func (system) Stat(n string) (fs.FileInfo, error)                { return os.Stat(n) }
func (system) Symlink(t, n string) error                         { return os.Symlink(t, n) }
func (system) WriteFile(n string, d []byte, p fs.FileMode) error { return os.WriteFile(n, d, p) }
func (system) OpenFile(n string, f int, p fs.FileMode) (*os.File, error) {
	return os.OpenFile(n, f, p)
}

var operations map[string]operation

func init() {
	operations = map[string]operation{
		"args": func(t tree, a args) (any, error) { return [][]string{os.Args[1:], os.Environ()}, nil },

		"evalsymlinks": func(t tree, a args) (any, error) { return filepath.EvalSymlinks(a.s(0)) },
		"location": func(t tree, a args) (any, error) {
			place, err := time.LoadLocation(a.s(0))
			if err != nil {
				return nil, err
			}
			return place.String(), nil
		},
		"user": func(t tree, a args) (any, error) { return user.Lookup(a.s(0)) },
		"pipe": func(t tree, a args) (any, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			first := last.Add(2)
			opened.Store(first-1, r)
			opened.Store(first, w)
			return []int64{first - 1, first}, nil
		},
		"f.deadline": func(t tree, a args) (any, error) {
			return nil, a.file(0).SetDeadline(time.Now().Add(time.Duration(a.n(1)) * time.Millisecond))
		},
		"captured": func(t tree, a args) (any, error) { // what the program's own output is, given away meanwhile
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			stdout := os.Stdout
			os.Stdout = w
			fmt.Print(a.s(0))
			os.Stdout = stdout
			w.Close()
			defer r.Close()
			return text(io.ReadAll(r))
		},
		"alive": func(t tree, a args) (any, error) {
			p, err := os.FindProcess(int(a.n(0)))
			if err != nil {
				return nil, err
			}
			return os.Getpid(), p.Signal(syscall.Signal(0))
		},
		"ticks": func(t tree, a args) (any, error) { // how often a goroutine ran during a read of standard input
			var ticks atomic.Int64
			go func() {
				for range time.Tick(time.Millisecond) {
					ticks.Add(1)
				}
			}()
			_, err := os.Stdin.Read(make([]byte, 1))
			return ticks.Load(), err
		},
		"streams": func(t tree, a args) (any, error) {
			var modes []string
			for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
				info, err := f.Stat()
				if err != nil {
					return nil, err
				}
				modes = append(modes, info.Mode().String())
			}
			return modes, nil
		},

		"read":      func(t tree, a args) (any, error) { return text(t.ReadFile(a.s(0))) },
		"write":     func(t tree, a args) (any, error) { return nil, t.WriteFile(a.s(0), []byte(a.s(1)), 0o600) },
		"mkdir":     func(t tree, a args) (any, error) { return nil, t.Mkdir(a.s(0), 0o700) },
		"mkdirall":  func(t tree, a args) (any, error) { return nil, t.MkdirAll(a.s(0), 0o700) },
		"remove":    func(t tree, a args) (any, error) { return nil, t.Remove(a.s(0)) },
		"removeall": func(t tree, a args) (any, error) { return nil, t.RemoveAll(a.s(0)) },
		"rename":    func(t tree, a args) (any, error) { return nil, t.Rename(a.s(0), a.s(1)) },
		"link":      func(t tree, a args) (any, error) { return nil, t.Link(a.s(0), a.s(1)) },
		"symlink":   func(t tree, a args) (any, error) { return nil, t.Symlink(a.s(0), a.s(1)) },
		"readlink":  func(t tree, a args) (any, error) { return t.Readlink(a.s(0)) },
		"stat":      func(t tree, a args) (any, error) { return about(t.Stat(a.s(0))) },
		"lstat":     func(t tree, a args) (any, error) { return about(t.Lstat(a.s(0))) },
		"chtimes": func(t tree, a args) (any, error) {
			return nil, t.Chtimes(a.s(0), moment(a.n(1)), moment(a.n(2)))
		},
		"walk": walk,
		"readdir": func(t tree, a args) (any, error) {
			f, err := t.OpenFile(a.s(0), os.O_RDONLY, 0)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return listed(f.ReadDir(-1))
		},
		"same": func(t tree, a args) (any, error) {
			one, err := t.Stat(a.s(0))
			two, other := t.Stat(a.s(1))
			return os.SameFile(one, two), errors.Join(err, other)
		},
		"createtemp": func(t tree, a args) (any, error) {
			f, err := os.CreateTemp(a.s(0), a.s(1))
			if err != nil {
				return nil, err
			}
			return f.Name(), f.Close()
		},
		"mkdirtemp": func(t tree, a args) (any, error) { return os.MkdirTemp(a.s(0), a.s(1)) },
		"truncate":  func(t tree, a args) (any, error) { return nil, os.Truncate(a.s(0), a.n(1)) },
		"chdir":     func(t tree, a args) (any, error) { return nil, os.Chdir(a.s(0)) },
		"getwd":     func(t tree, a args) (any, error) { return os.Getwd() },
		"invalid":   func(t tree, a args) (any, error) { return nil, t.WriteFile("not UTF-8: \xff", nil, 0o600) },

		"open": func(t tree, a args) (any, error) {
			flag := 0
			for _, name := range strings.Split(a.s(1), "|") {
				flag |= flags[name]
			}
			f, err := t.OpenFile(a.s(0), flag, 0o600)
			if err != nil {
				return nil, err
			}
			number := last.Add(1)
			opened.Store(number, f)
			return number, nil
		},
		"f.read":     func(t tree, a args) (any, error) { return part(a.n(1), a.file(0).Read) },
		"f.readall":  func(t tree, a args) (any, error) { return text(io.ReadAll(a.file(0))) },
		"f.write":    func(t tree, a args) (any, error) { return a.file(0).Write([]byte(a.s(1))) },
		"f.writeat":  func(t tree, a args) (any, error) { return a.file(0).WriteAt([]byte(a.s(1)), a.n(2)) },
		"f.seek":     func(t tree, a args) (any, error) { return a.file(0).Seek(a.n(1), int(a.n(2))) },
		"f.truncate": func(t tree, a args) (any, error) { return nil, a.file(0).Truncate(a.n(1)) },
		"f.sync":     func(t tree, a args) (any, error) { return nil, a.file(0).Sync() },
		"f.stat":     func(t tree, a args) (any, error) { return about(a.file(0).Stat()) },
		"f.readdir":  func(t tree, a args) (any, error) { return listed(a.file(0).ReadDir(int(a.n(1)))) },
		"f.allocate": func(t tree, a args) (any, error) {
			return nil, failed(fdAllocate(int32(a.file(0).Fd()), a.n(1), a.n(2)))
		},
		"f.close": func(t tree, a args) (any, error) { return nil, a.file(0).Close() },
		"f.readat": func(t tree, a args) (any, error) {
			return part(a.n(1), func(p []byte) (int, error) { return a.file(0).ReadAt(p, a.n(2)) })
		},

		"fd.read": func(t tree, a args) (any, error) {
			return part(8, func(p []byte) (int, error) { return syscall.Read(int(a.n(0)), p) })
		},
		"fd.write": func(t tree, a args) (any, error) { return syscall.Write(int(a.n(0)), []byte("x")) },
		"stdin":    func(t tree, a args) (any, error) { return part(100, os.Stdin.Read) },

		"wild": wild, "churn": churn, "append": appended, "exchanged": exchanged, "list while changing": listWhileChanging, "slices": slices,
	}
	for name, do := range raw {
		operations["raw."+name] = func(t tree, a args) (any, error) { return do(a) }
	}
	guest.Handle("do", func(payload []byte) ([]byte, error) {
		var asked struct {
			Root, Op string
			Args     args
		}
		decoder := json.NewDecoder(bytes.NewReader(payload))
		decoder.UseNumber()
		if err := decoder.Decode(&asked); err != nil {
			return nil, err
		}
		do := operations[asked.Op]
		if do == nil {
			return nil, fmt.Errorf("there is no operation %q", asked.Op)
		}
		var t tree = system{}
		if asked.Root != "" {
			root, err := os.OpenRoot(asked.Root)
			if err != nil {
				return nil, err
			}
			defer root.Close()
			t = root
		}
		var said outcome
		value, err := do(t, asked.Args)
		said.Value = value
		if err != nil {
			said.Error = err.Error()
			for name, e := range known {
				if errors.Is(err, e) {
					said.Is = append(said.Is, name)
				}
			}
		}
		return json.Marshal(said)
	})
}

func text(data []byte, err error) (string, error) { return string(data), err }

// part is what one read of n bytes got.
func part(n int64, read func([]byte) (int, error)) (string, error) {
	buffer := make([]byte, n)
	got, err := read(buffer)
	return string(buffer[:got]), err
}

// moment is so many nanoseconds after 1970; 0 is the zero time.
func moment(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

func about(info fs.FileInfo, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return map[string]any{"name": info.Name(), "size": info.Size(), "mode": info.Mode().String(), "mtime": info.ModTime().UnixNano(),
		"links": info.Sys().(*syscall.Stat_t).Nlink}, nil
}

// listed is the first letter of each entry's type, and its name.
func listed(entries []fs.DirEntry, err error) (any, error) {
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Type().String()[:1]+e.Name())
	}
	return names, err
}

func walk(t tree, a args) (any, error) {
	found := []string{}
	return &found, fs.WalkDir(t.FS(), a.s(0), func(name string, e fs.DirEntry, err error) error {
		found = append(found, name)
		return err
	})
}

// together runs n goroutines, and returns the first error.
func together(n int, work func(i int) error) error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- work(i) }()
	}
	var first error
	for range n {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}

// churn writes, reads, looks at, renames files in a folder, and removes those with odd numbers.
func churn(t tree, a args) (any, error) {
	dir, files, goroutines := a.s(0), int(a.n(1)), int(a.n(2))
	return nil, together(goroutines, func(g int) error {
		for i := g; i < files; i += goroutines {
			name, other, content := fmt.Sprintf("%s/new%d", dir, i), fmt.Sprintf("%s/file%d", dir, i), strings.Repeat(fmt.Sprint(i), 100)
			if err := t.WriteFile(name, []byte(content), 0o600); err != nil {
				return err
			}
			if err := t.Rename(name, other); err != nil {
				return err
			}
			read, err := t.ReadFile(other)
			if err != nil {
				return err
			}
			info, err := t.Stat(other)
			if err != nil {
				return err
			}
			if string(read) != content || info.Size() != int64(len(content)) {
				return fmt.Errorf("%s has %d bytes, and %.20q in it", other, info.Size(), read)
			}
			if i%2 == 1 {
				if err := t.Remove(other); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// appended appends lines from goroutines: half share one file, the others open it themselves.
func appended(t tree, a args) (any, error) {
	goroutines, lines := int(a.n(1)), int(a.n(2))
	open := func() (*os.File, error) { return t.OpenFile(a.s(0), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) }
	shared, err := open()
	if err != nil {
		return nil, err
	}
	defer shared.Close()
	return nil, together(goroutines, func(g int) error {
		f := shared
		if g%2 == 1 {
			own, err := open()
			if err != nil {
				return err
			}
			defer own.Close()
			f = own
		}
		for n := range lines {
			if _, err := fmt.Fprintf(f, "%d %d %s\n", g, n, strings.Repeat("x", 100+g)); err != nil {
				return err
			}
		}
		return nil
	})
}

// slices has goroutines write and read again their parts of one open file, at offsets.
func slices(t tree, a args) (any, error) {
	f := a.file(0)
	return nil, together(16, func(g int) error {
		for n := range 50 {
			offset, data := int64(n*16+g)*1000, bytes.Repeat([]byte{byte('a' + g)}, 1000)
			if _, err := f.WriteAt(data, offset); err != nil {
				return err
			}
			again := make([]byte, 1000)
			if _, err := f.ReadAt(again, offset); err != nil || !bytes.Equal(again, data) {
				return fmt.Errorf("at %d: %.20q, %w", offset, again, err)
			}
		}
		return nil
	})
}

// exchanged reads and changes a file, and its folder, that are something else all the time: at least n times, and until reading
// has both worked and failed. It returns all that was read.
func exchanged(t tree, a args) (any, error) {
	seen, failures, begin := map[string]int{}, 0, time.Now()
	for n := int64(0); n < a.n(2) || (failures == 0 || len(seen) == 0) && time.Since(begin) < 20*time.Second; n++ {
		data, err := t.ReadFile(path.Join(a.s(0), a.s(1)))
		if err == nil {
			seen[string(data)]++
		} else {
			failures++
		}
		_ = t.WriteFile(path.Join(a.s(0), a.s(1)), []byte("inside"), 0o600)
		_ = t.Chtimes(path.Join(a.s(0), a.s(1)), begin, begin)
		_ = t.Chtimes(a.s(0)+"/", begin, begin)
		_ = t.WriteFile(path.Join(a.s(0), "created"), nil, 0o600)
		_ = t.Mkdir(path.Join(a.s(0), "made"), 0o700)
		_ = t.Remove(path.Join(a.s(0), "victim"))
		_ = t.WriteFile("moved", nil, 0o600)
		_ = t.Rename("moved", path.Join(a.s(0), "moved"))
	}
	return map[string]any{"seen": seen, "failures": failures}, nil
}

// listWhileChanging reads a folder in batches while goroutines create and remove other files in it.
func listWhileChanging(t tree, a args) (any, error) {
	f, err := t.OpenFile(a.s(0), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var end atomic.Bool
	done := make(chan error)
	go func() {
		done <- together(4, func(g int) error {
			for n := 0; !end.Load(); n++ {
				name := fmt.Sprintf("%s/changing %d %d", a.s(0), g, n)
				if err := errors.Join(t.WriteFile(name, nil, 0o600), t.Remove(name)); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	names := []string{}
	for err == nil {
		var some []string
		some, err = f.Readdirnames(20)
		names = append(names, some...)
	}
	end.Store(true)
	if err == io.EOF {
		err = nil
	}
	return names, errors.Join(err, <-done)
}

// letters prints from many goroutines, 200 KB of one letter at once.
func letters() {
	err := together(8, func(g int) error {
		data := bytes.Repeat([]byte{byte('a' + g)}, 200_000)
		for range 4 {
			if n, err := os.Stdout.Write(data); n != len(data) || err != nil {
				return fmt.Errorf("wrote %d: %w", n, err)
			}
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
}

//go:wasmimport wasi_snapshot_preview1 path_open
func pathOpen(dir, follow int32, name string, how int32, rights, inheriting int64, flags int32, fd *int32) uint32

//go:wasmimport wasi_snapshot_preview1 path_filestat_get
func pathStat(dir, follow int32, name string, stat unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 path_filestat_set_times
func pathTimes(dir, follow int32, name string, atime, mtime int64, flags int32) uint32

//go:wasmimport wasi_snapshot_preview1 path_readlink
func pathReadlink(dir int32, name string, buffer unsafe.Pointer, size int32, got *int32) uint32

//go:wasmimport wasi_snapshot_preview1 path_create_directory
func pathMkdir(dir int32, name string) uint32

//go:wasmimport wasi_snapshot_preview1 path_remove_directory
func pathRmdir(dir int32, name string) uint32

//go:wasmimport wasi_snapshot_preview1 path_unlink_file
func pathUnlink(dir int32, name string) uint32

//go:wasmimport wasi_snapshot_preview1 path_rename
func pathRename(dir int32, name string, otherDir int32, other string) uint32

//go:wasmimport wasi_snapshot_preview1 path_link
func pathLink(dir, follow int32, name string, otherDir int32, other string) uint32

//go:wasmimport wasi_snapshot_preview1 path_symlink
func pathSymlink(target string, dir int32, name string) uint32

//go:wasmimport wasi_snapshot_preview1 fd_allocate
func fdAllocate(fd int32, offset, size int64) uint32

//go:wasmimport wasi_snapshot_preview1 fd_readdir
func fdReaddir(fd int32, buffer unsafe.Pointer, size int32, cookie int64, got *int32) uint32

//go:wasmimport wasi_snapshot_preview1 fd_read
func fdRead(fd int32, vectors unsafe.Pointer, count int32, got unsafe.Pointer) uint32

// wild gives WASI an address that is not in the memory.
func wild(t tree, a args) (any, error) {
	f, err := os.Open("f")
	if err != nil {
		return nil, err
	}
	nowhere, buffer, got := uintptr(1<<32-1<<16), make([]byte, 8), int32(0)
	far := *(*unsafe.Pointer)(unsafe.Pointer(&nowhere))
	vector := [2]uint32{uint32(uintptr(unsafe.Pointer(&buffer[0]))), 8}
	fd := int32(f.Fd())
	switch a.s(0) {
	case "name":
		return nil, failed(pathMkdir(3, unsafe.String((*byte)(far), 100)))
	case "vectors":
		return nil, failed(fdRead(fd, far, 1, unsafe.Pointer(&got)))
	case "buffer":
		vector[0] = uint32(nowhere)
		return nil, failed(fdRead(fd, unsafe.Pointer(&vector), 1, unsafe.Pointer(&got)))
	}
	return nil, failed(fdRead(fd, unsafe.Pointer(&vector), 1, far))
}

func failed(errno uint32) error {
	if errno == 0 {
		return nil
	}
	return syscall.Errno(errno)
}

// raw are WASI's own functions, whose paths package syscall has not cleaned.
var raw = map[string]func(a args) (any, error){
	"open": func(a args) (any, error) { // dir, follow, name, how
		var fd int32
		const rights = 1<<30 - 1
		if err := failed(pathOpen(int32(a.n(0)), int32(a.n(1)), a.s(2), int32(a.n(3)), rights, rights, 0, &fd)); err != nil {
			if err = failed(pathOpen(int32(a.n(0)), int32(a.n(1)), a.s(2), int32(a.n(3)), 1<<1|1<<14, rights, 0, &fd)); err != nil {
				return nil, err
			}
		}
		defer syscall.Close(int(fd))
		if got, err := part(100, func(p []byte) (int, error) { return syscall.Read(int(fd), p) }); err == nil {
			return got, nil
		}
		buffer, got := make([]byte, 10_000), int32(0)
		return string(buffer), failed(fdReaddir(fd, unsafe.Pointer(&buffer[0]), int32(len(buffer)), 0, &got))
	},
	"stat": func(a args) (any, error) {
		var stat [8]uint64
		return stat[4], failed(pathStat(int32(a.n(0)), int32(a.n(1)), a.s(2), unsafe.Pointer(&stat)))
	},
	"times": func(a args) (any, error) {
		return nil, failed(pathTimes(int32(a.n(0)), int32(a.n(1)), a.s(2), a.n(3), a.n(3), 1|4))
	},
	"readlink": func(a args) (any, error) {
		buffer, got := make([]byte, 100), int32(0)
		err := failed(pathReadlink(int32(a.n(0)), a.s(1), unsafe.Pointer(&buffer[0]), 100, &got))
		return string(buffer[:got]), err
	},
	"mkdir":  func(a args) (any, error) { return nil, failed(pathMkdir(int32(a.n(0)), a.s(1))) },
	"rmdir":  func(a args) (any, error) { return nil, failed(pathRmdir(int32(a.n(0)), a.s(1))) },
	"unlink": func(a args) (any, error) { return nil, failed(pathUnlink(int32(a.n(0)), a.s(1))) },
	"rename": func(a args) (any, error) {
		return nil, failed(pathRename(int32(a.n(0)), a.s(1), int32(a.n(2)), a.s(3)))
	},
	"link": func(a args) (any, error) {
		return nil, failed(pathLink(int32(a.n(0)), 0, a.s(1), int32(a.n(2)), a.s(3)))
	},
	"linkto": func(a args) (any, error) {
		return nil, failed(pathLink(int32(a.n(0)), 1, a.s(1), int32(a.n(2)), a.s(3)))
	},
	"symlink": func(a args) (any, error) { return nil, failed(pathSymlink(a.s(0), int32(a.n(1)), a.s(2))) },
}
