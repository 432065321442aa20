package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"time"
)

func init() {
	add(map[string]program{
		"exec": func(string) (any, error) {
			output, err := exec.Command("/bin/echo", "hello").Output()
			return string(output), err
		},
		"look-path": func(string) (any, error) {
			_, err := exec.LookPath("sh")
			return "", err
		},
		"start-process": func(string) (any, error) {
			process, err := os.StartProcess("/bin/true", nil, &os.ProcAttr{})
			if err != nil {
				return nil, err
			}
			_, err = process.Wait()
			return "", err
		},
		"notify": func(string) (any, error) {
			received := make(chan os.Signal, 1)
			signal.Notify(received, os.Interrupt)
			process, err := os.FindProcess(os.Getpid())
			if err != nil {
				return nil, err
			}
			if err := process.Signal(os.Interrupt); err != nil {
				return nil, err
			}
			select {
			case s := <-received:
				return s, nil
			case <-time.After(5 * time.Second):
				return nil, errors.New("nothing came")
			}
		},
		"user": func(string) (any, error) {
			current, err := user.Current()
			if err != nil {
				return nil, err
			}
			return current.Username, nil
		},
		"lookup-user": func(string) (any, error) {
			root, err := user.Lookup("root")
			if err != nil {
				return nil, err
			}
			return root.Uid, nil
		},
		"home": func(string) (any, error) { return os.UserHomeDir() },
		"uid":  func(string) (any, error) { return os.Getuid(), nil },
		"pid":  func(string) (any, error) { return os.Getpid(), nil },
		"hostname": func(string) (any, error) {
			return os.Hostname()
		},
		"executable": func(string) (any, error) {
			_, err := os.Executable()
			return "", err
		},
		"getwd": func(string) (any, error) { return os.Getwd() },
		"environ": func(string) (any, error) {
			os.Unsetenv("SSL_CERT_FILE") // of a module with network, on a machine with certificates
			return len(os.Environ()), nil
		},
		"chdir": func(folder string) (any, error) {
			if err := os.Chdir(folder); err != nil {
				return nil, err
			}
			return "", os.WriteFile("relative", nil, 0o600)
		},
		"exit": func(string) (any, error) { os.Exit(3); return nil, nil },
	})
}
