// The wire of the convoy driver protocol, with the standard library alone: copy this file into your driver.
// docs/driver-protocol.md says what goes over the socket.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	protocolName    = "convoy-driver"
	protocolVersion = "1.2"
	maxFrame        = 64 << 20 // bytes of a line, its newline included
	maxCalls        = 64       // calls that run at once
	remembered      = 8192     // ids of requests that are not carried out again
)

// Kinds of errors. The set is closed.
const (
	NotFound, AlreadyExists, InUse, Busy     = "not_found", "already_exists", "in_use", "busy"
	InvalidArgument, Unsupported, Exhausted  = "invalid_argument", "unsupported", "exhausted"
	PermissionDenied, Unavailable, Cancelled = "permission_denied", "unavailable", "cancelled"
	DeadlineExceeded, DataLoss, Internal     = "deadline_exceeded", "data_loss", "internal"
)

// Error is what a call is refused with. Anything else that a method returns becomes one of the kind Internal.
type Error struct {
	Kind      string `json:"kind"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
	Hint      string `json:"hint,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Refuse makes an error of a kind.
func Refuse(kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Retryable: kind == Busy || kind == Unavailable}
}

// Call is what a call carries beside its request. Its context ends at the deadline, and when the call is cancelled.
type Call struct {
	context.Context
	ID   string
	host *Host
}

// Check says whether to go on. A loop that can take longer than a second asks it.
func (c *Call) Check() error {
	if errors.Is(c.Err(), context.DeadlineExceeded) {
		return Refuse(DeadlineExceeded, "the deadline of the call has passed")
	} else if c.Err() != nil {
		return Refuse(Cancelled, "the call was cancelled")
	}
	return nil
}

// Progress tells people who wait how far the call is; unit is bytes, files or percent.
func (c *Call) Progress(done uint64, unit string) {
	c.host.note("progress", map[string]any{"request_id": c.ID, "done": done, "unit": unit})
}

// Log writes to the host's log, under the id of the call. The level is trace, debug, info, warn or error.
func (c *Call) Log(level, format string, args ...any) {
	c.host.note("log", map[string]any{"level": level, "target": "driver", "message": fmt.Sprintf(format, args...), "request_id": c.ID})
}

// Method carries out a call: JSON in; what is returned is written as JSON.
type Method func(call *Call, request json.RawMessage) (any, error)

// Handle makes a Method of a function that takes a typed request.
func Handle[Request any](carryOut func(*Call, Request) (any, error)) Method {
	return func(call *Call, raw json.RawMessage) (any, error) {
		var request Request
		if err := json.Unmarshal(raw, &request); err != nil {
			return nil, Refuse(InvalidArgument, "the request cannot be read: %v", err)
		}
		return carryOut(call, request)
	}
}

// Host is the other end of the socket.
type Host struct {
	methods  map[string]Method
	sending  sync.Mutex
	socket   net.Conn
	mutex    sync.Mutex
	features map[string]bool
	cancels  map[string]context.CancelFunc
	seen     map[uint64]bool
	order    []uint64
	running  sync.WaitGroup
	slots    chan struct{}
}

type message struct {
	ID     *uint64         `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}
type requestContext struct {
	RequestID  string `json:"request_id"`
	DeadlineMS *int64 `json:"deadline_ms"`
}

// Serve carries out what the host asks until it says goodbye or is gone. It does not return.
func Serve(methods map[string]Method) {
	fd, err := strconv.Atoi(os.Getenv("CONVOY_DRIVER_FD"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "This is a convoy driver. Try: convoy driver run %s -- describe\n", os.Args[0])
		os.Exit(2)
	}
	file := os.NewFile(uintptr(fd), "host")
	socket, err := net.FileConn(file) // A copy that is closed in programs that this one starts.
	if err != nil {
		log.Fatalf("CONVOY_DRIVER_FD=%d names no socket: only the host sets it: %v", fd, err)
	}
	file.Close()
	host := &Host{methods: methods, socket: socket, cancels: map[string]context.CancelFunc{}, seen: map[uint64]bool{},
		slots: make(chan struct{}, maxCalls)}
	reader := bufio.NewReaderSize(socket, 64<<10)
	for {
		line, err := readLine(reader)
		if err != nil {
			os.Exit(0) // The host is gone: another may start another process on the same storage.
		}
		host.take(line)
	}
}

func readLine(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxFrame {
			return nil, errors.New("a line of more than 64 MiB")
		} else if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func (h *Host) take(line []byte) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil || m.Method == "" {
		h.fail(nil, -32700, Refuse(InvalidArgument, "expected a JSON-RPC 2.0 request, found %.80q", line))
		return
	}
	switch {
	case m.Method == "goodbye":
		h.running.Wait()
		_, _ = h.carryOut(&Call{Context: context.Background(), host: h}, "driver.close", json.RawMessage("{}"))
		os.Exit(0)
	case m.Method == "cancel":
		var params requestContext
		_ = json.Unmarshal(m.Params, &params)
		h.mutex.Lock()
		if cancel := h.cancels[params.RequestID]; cancel != nil {
			cancel()
		}
		h.mutex.Unlock()
	case m.ID == nil: // A notification of a newer minor version.
	case m.Method == "hello":
		h.hello(m)
	case h.features == nil:
		h.fail(m.ID, -32600, Refuse(Unavailable, "expected hello first"))
	case h.isNew(*m.ID):
		h.running.Add(1)
		go h.answer(m)
	}
}

func (h *Host) isNew(id uint64) bool {
	if h.seen[id] {
		return false
	}
	h.seen[id], h.order = true, append(h.order, id)
	if len(h.order) > remembered {
		delete(h.seen, h.order[0])
		h.order = h.order[1:]
	}
	return true
}

func (h *Host) hello(m message) {
	var params struct {
		Protocol string   `json:"protocol"`
		Version  string   `json:"version"`
		Features []string `json:"features"`
	}
	_ = json.Unmarshal(m.Params, &params)
	if params.Protocol != protocolName || strings.Split(params.Version, ".")[0] != strings.Split(protocolVersion, ".")[0] {
		h.fail(m.ID, -32000, Refuse(Unsupported, "expected version %s of %s or another of its major, found %q of %q",
			protocolVersion, protocolName, params.Version, params.Protocol))
		os.Exit(1)
	}
	h.features = map[string]bool{}
	for _, feature := range params.Features {
		h.features[feature] = true
	}
	h.send(map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": map[string]any{"protocol": protocolName,
		"version": protocolVersion, "features": []string{"cancel", "progress", "log", "goodbye"}, "software": os.Args[0]}})
}

func (h *Host) answer(m message) {
	defer h.running.Done()
	var params struct {
		Request json.RawMessage `json:"request"`
		Context requestContext  `json:"context"`
	}
	if err := json.Unmarshal(m.Params, &params); err != nil {
		h.fail(m.ID, -32602, Refuse(InvalidArgument, "the parameters cannot be read: %v", err))
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	if params.Context.DeadlineMS != nil {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*params.Context.DeadlineMS)*time.Millisecond)
	}
	h.remember(params.Context.RequestID, cancel)
	defer h.remember(params.Context.RequestID, nil)
	defer cancel()
	h.slots <- struct{}{}
	result, err := h.carryOut(&Call{Context: ctx, ID: params.Context.RequestID, host: h}, m.Method, params.Request)
	<-h.slots
	if err != nil {
		var refused *Error
		if !errors.As(err, &refused) {
			refused = Refuse(Internal, "%s: %v", m.Method, err)
		}
		h.fail(m.ID, -32000, refused)
		return
	}
	h.send(map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": result})
}

func (h *Host) remember(id string, cancel context.CancelFunc) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.cancels[id] = cancel; cancel == nil {
		delete(h.cancels, id)
	}
}

func (h *Host) carryOut(call *Call, method string, request json.RawMessage) (result any, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			// The host logs standard error.
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", method, panicked, debug.Stack())
			err = Refuse(Internal, "the driver failed in %s: %v", method, panicked)
		}
	}()
	carryOut := h.methods[method]
	if carryOut == nil {
		return nil, Refuse(Unsupported, "this driver does not support %s", method)
	}
	if err = call.Check(); err == nil {
		result, err = carryOut(call, request)
	}
	return result, err
}

func (h *Host) fail(id *uint64, code int, err *Error) {
	h.send(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": err.Message, "data": err}})
}

// note sends what the host takes only if it said so.
func (h *Host) note(feature string, params any) {
	if h.features[feature] {
		h.send(map[string]any{"jsonrpc": "2.0", "method": feature, "params": params})
	}
}

func (h *Host) send(message map[string]any) {
	line, err := json.Marshal(message)
	if err == nil && len(line) >= maxFrame {
		err = errors.New("the reply is too long")
	}
	if err != nil {
		refused := Refuse(Exhausted, "%v", err)
		line, _ = json.Marshal(map[string]any{"jsonrpc": "2.0", "id": message["id"],
			"error": map[string]any{"code": -32008, "message": refused.Message, "data": refused}})
	}
	h.sending.Lock()
	defer h.sending.Unlock()
	if _, err := h.socket.Write(append(line, '\n')); err != nil {
		os.Exit(0) // The host is gone.
	}
}
