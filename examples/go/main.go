// Command convoy-driver-shelf is a convoy driver: a volume is a directory.
//
// In ROOT, volumes has the volumes, kept the data of those that were only forgotten, and work what is being made or
// removed. One rename decides, so a crash leaves something in work alone, and driver.open empties it.
package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"syscall"
	"time"
)

type volume struct {
	Name    string `json:"name"`
	Size    uint64 `json:"size"`
	Created string `json:"created"`
}

// named is a request that names a volume; each method has members of its own beside it.
type named struct {
	Name          string            `json:"name"`
	Options       map[string]string `json:"options"`
	ReferenceOnly bool              `json:"reference_only"`
	Mountpoint    string            `json:"mountpoint"`
}

var (
	root string
	name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,199}$`)
)

type empty struct{}

func describe(*Call, empty) (any, error) {
	return map[string]any{"name": "shelf", "version": "0.1.0", "protocol": protocolVersion,
		"summary": "directories", "capabilities": []string{}}, nil
}

func open(_ *Call, request struct {
	Root    string            `json:"root"`
	Options map[string]string `json:"options"`
}) (any, error) {
	if err := noOptions(request.Options); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(request.Root, "work")); err != nil {
		return nil, err
	}
	for _, group := range []string{"volumes", "kept", "work"} {
		if err := os.MkdirAll(filepath.Join(request.Root, group), 0o700); err != nil {
			return nil, err
		}
	}
	root = request.Root
	return empty{}, nil
}

func noOptions(options map[string]string) error {
	for option := range options {
		return Refuse(InvalidArgument, "unknown option %q: there are none", option)
	}
	return nil
}

func place(group, volume string) string { return filepath.Join(root, group, volume) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// find looks whether a volume is there, as it should be or should not.
func find(request named, there bool) error {
	switch {
	case root == "":
		return Refuse(Unavailable, "the driver is not open: expected driver.open first")
	case !name.MatchString(request.Name):
		return Refuse(InvalidArgument, "invalid name %q: expected 2 to 200 letters, digits, '-', '_' or '.'", request.Name)
	case there && !exists(place("volumes", request.Name)):
		return Refuse(NotFound, "there is no volume %s", request.Name)
	case !there && exists(place("volumes", request.Name)):
		return Refuse(AlreadyExists, "the volume %s exists", request.Name)
	}
	return nil
}

func create(_ *Call, request named) (any, error) {
	if err := find(request, false); err != nil {
		return nil, err
	}
	if err := noOptions(request.Options); err != nil {
		return nil, err
	}
	from := place("kept", request.Name)
	if !exists(from) {
		from = place("work", request.Name)
		if err := errors.Join(os.RemoveAll(from), os.MkdirAll(filepath.Join(from, "data"), 0o755)); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(from, place("volumes", request.Name)); err != nil {
		return nil, err
	}
	syscall.Sync() // An answer means durable.
	return get(nil, request)
}

func remove(_ *Call, request named) (any, error) {
	if err := find(request, true); err != nil {
		return nil, err
	}
	work := place("work", request.Name)
	to := work
	if request.ReferenceOnly {
		to = place("kept", request.Name)
	}
	if err := errors.Join(os.RemoveAll(work), os.Rename(place("volumes", request.Name), to)); err != nil {
		return nil, err
	}
	syscall.Sync()
	return empty{}, os.RemoveAll(work)
}

func mount(_ *Call, request named) (any, error) {
	if request.Mountpoint != "" {
		return nil, Refuse(Unsupported, "a volume is where it is: expected no mountpoint")
	}
	return map[string]string{"mountpoint": filepath.Join(place("volumes", request.Name), "data")}, find(request, true)
}

func unmount(_ *Call, request named) (any, error) { return empty{}, find(request, true) }

func get(_ *Call, request named) (any, error) {
	if err := find(request, true); err != nil {
		return nil, err
	}
	// Of the directory that holds the data: it changes with the volume's making alone.
	made, err := os.Stat(place("volumes", request.Name))
	if err != nil {
		return nil, err
	}
	return volume{Name: request.Name, Created: made.ModTime().UTC().Format(time.RFC3339)}, nil
}

func list(_ *Call, request struct {
	After string `json:"after"`
	Limit *int   `json:"limit"`
}) (any, error) {
	entries, err := os.ReadDir(place("volumes", ""))
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, entry := range entries {
		if entry.Name() > request.After {
			names = append(names, entry.Name())
		}
	}
	sort.Strings(names)
	more := request.Limit != nil && len(names) > *request.Limit
	if more {
		names = names[:*request.Limit]
	}
	volumes := []any{}
	for _, one := range names {
		found, err := get(nil, named{Name: one})
		var refused *Error
		switch {
		case err == nil:
			volumes = append(volumes, found)
		case errors.As(err, &refused) || errors.Is(err, fs.ErrNotExist): // Deleted meanwhile.
		default:
			return nil, err
		}
	}
	return map[string]any{"volumes": volumes, "more": more}, nil
}

func main() {
	Serve(map[string]Method{
		"driver.describe": Handle(describe),
		"driver.open":     Handle(open),
		"driver.info":     Handle(func(*Call, empty) (any, error) { return map[string]any{"info": map[string]string{"Root": root}}, nil }),
		"driver.probe":    Handle(func(*Call, empty) (any, error) { return map[string]any{"healthy": true}, nil }),
		"driver.close":    Handle(func(*Call, empty) (any, error) { return empty{}, nil }),
		"volume.create":   Handle(create),
		"volume.delete":   Handle(remove),
		"volume.mount":    Handle(mount),
		"volume.unmount":  Handle(unmount),
		"volume.get":      Handle(get),
		"volume.list":     Handle(list),
	})
}
