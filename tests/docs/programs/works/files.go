package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

func init() {
	add(map[string]program{
		"read-write": func(folder string) (any, error) {
			name := filepath.Join(folder, "a")
			if err := os.WriteFile(name, []byte("text"), 0o600); err != nil {
				return nil, err
			}
			content, err := os.ReadFile(name)
			return string(content), err
		},
		"append": func(folder string) (any, error) {
			name := filepath.Join(folder, "a")
			for range 2 {
				file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
				if err != nil {
					return nil, err
				}
				if _, err := file.WriteString("x"); err != nil {
					return nil, err
				}
				file.Close()
			}
			content, err := os.ReadFile(name)
			return string(content), err
		},
		"rename-remove": func(folder string) (any, error) {
			a, b := filepath.Join(folder, "a"), filepath.Join(folder, "b")
			return "", errors.Join(os.WriteFile(a, nil, 0o600), os.Rename(a, b), os.Remove(b))
		},
		"folders": func(folder string) (any, error) {
			deep := filepath.Join(folder, "x", "y")
			if err := errors.Join(os.MkdirAll(deep, 0o700), os.WriteFile(filepath.Join(deep, "f"), nil, 0o600)); err != nil {
				return nil, err
			}
			seen := 0
			err := filepath.WalkDir(folder, func(string, fs.DirEntry, error) error { seen++; return nil })
			return seen, errors.Join(err, os.RemoveAll(filepath.Join(folder, "x")))
		},
		"link": func(folder string) (any, error) {
			a, b := filepath.Join(folder, "a"), filepath.Join(folder, "b")
			return "", errors.Join(os.WriteFile(a, nil, 0o600), os.Link(a, b))
		},
		"symlink": func(folder string) (any, error) {
			b := filepath.Join(folder, "b")
			if err := os.Symlink("a", b); err != nil {
				return nil, err
			}
			return os.Readlink(b)
		},
		"chmod": func(folder string) (any, error) {
			a := filepath.Join(folder, "a")
			if err := errors.Join(os.WriteFile(a, nil, 0o600), os.Chmod(a, 0o400)); err != nil {
				return nil, err
			}
			info, err := os.Stat(a)
			if err != nil {
				return nil, err
			}
			return info.Mode(), nil
		},
		"mode": func(folder string) (any, error) {
			a := filepath.Join(folder, "a")
			if err := os.WriteFile(a, nil, 0o640); err != nil {
				return nil, err
			}
			info, err := os.Stat(a)
			if err != nil {
				return nil, err
			}
			return info.Mode(), nil
		},
		"chown": func(folder string) (any, error) {
			a := filepath.Join(folder, "a")
			return "", errors.Join(os.WriteFile(a, nil, 0o600), os.Chown(a, os.Getuid(), -1))
		},
		"chtimes": func(folder string) (any, error) {
			a, when := filepath.Join(folder, "a"), time.Unix(1e9, 0)
			if err := errors.Join(os.WriteFile(a, nil, 0o600), os.Chtimes(a, when, when)); err != nil {
				return nil, err
			}
			info, err := os.Stat(a)
			if err != nil {
				return nil, err
			}
			return info.ModTime().Unix(), nil
		},
		"truncate": func(folder string) (any, error) {
			a := filepath.Join(folder, "a")
			return "", errors.Join(os.WriteFile(a, []byte("text"), 0o600), os.Truncate(a, 1))
		},
		"sync": func(folder string) (any, error) {
			file, err := os.Create(filepath.Join(folder, "a"))
			if err != nil {
				return nil, err
			}
			return "", errors.Join(file.Sync(), file.Close())
		},
		"temp": func(folder string) (any, error) {
			name, err := os.MkdirTemp("", "x")
			if err == nil {
				os.Remove(name)
			}
			return "", err
		},
		"temp-mounted": func(folder string) (any, error) {
			os.Setenv("TMPDIR", folder)
			_, err := os.MkdirTemp("", "x")
			return "", err
		},
		"root": func(folder string) (any, error) {
			root, err := os.OpenRoot(folder)
			if err != nil {
				return nil, err
			}
			_, err = root.Open("../etc/passwd")
			return err != nil, root.WriteFile("a", nil, 0o600)
		},
		"etc": func(string) (any, error) {
			_, err := os.Stat("/etc/passwd")
			return "", err
		},
		"pipe": func(string) (any, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			go func() { w.WriteString("text"); w.Close() }()
			text, err := io.ReadAll(r)
			return string(text), err
		},
		"deadline": func(string) (any, error) {
			r, _, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			if err := r.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				return nil, err
			}
			_, err = r.Read(make([]byte, 1))
			return errors.Is(err, os.ErrDeadlineExceeded), nil
		},
	})
}
