// The rows of Go's goroutines, all on one thread: a line per row, NAME and the CPU time of an operation in nanoseconds,
// the collector's included. With the argument "parked" or "asleep", rows about many, as in bench/fiber/memory.h.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	batch    = 100
	many     = 1000
	parked   = 100000
	sleepers = 200000
)

func check(right bool, what string) {
	if right {
		return
	}
	fmt.Fprintln(os.Stderr, "wrong: "+what)
	os.Exit(1)
}

func cpuNs() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

// ---- the rows: each goroutine counts on its own, as it may be interrupted anywhere ----

func sum(counts []int) int {
	total := 0
	for _, count := range counts {
		total += count
	}
	return total
}

// Gosched puts a goroutine behind all others that are ready.
func yield(operations, size int) {
	var all sync.WaitGroup
	turns := make([]int, size)
	all.Add(size)
	for i := range turns {
		go func(turns *int) {
			for i := 0; i < operations/size; i++ {
				*turns++
				runtime.Gosched()
			}
			all.Done()
		}(&turns[i])
	}
	all.Wait()
	check(sum(turns) == operations, "the number of turns")
}

func spawnFinish(operations, size int) {
	var all sync.WaitGroup
	ended := make([]int, size)
	for done := 0; done < operations; done += size {
		all.Add(size)
		for i := range ended {
			ended := &ended[i]
			go func() {
				*ended++
				all.Done()
			}()
		}
		all.Wait()
	}
	check(sum(ended) == operations, "the number of goroutines that ended")
}

func awaitReady(operations, size int) {
	total := 0
	for i := 0; i < operations; i += size {
		ready := make(chan int, 1)
		ready <- 2
		total += <-ready
	}
	check(total == 2*operations, "the sum of what was received")
}

// Two of them, each of which waits for what the other one sends.
func awaitPending(operations, size int) {
	var all sync.WaitGroup
	var received [2]int
	there, back := make(chan int), make(chan int)
	all.Add(2)
	go func() {
		for i := 0; i < operations/size; i++ {
			there <- 2
			received[0] += <-back
		}
		all.Done()
	}()
	go func() {
		for i := 0; i < operations/size; i++ {
			received[1] += <-there
			back <- 2
		}
		all.Done()
	}()
	all.Wait()
	check(sum(received[:]) == 2*operations, "the sum of what was received")
}

func park(ctx context.Context, all *sync.WaitGroup, cancelled *int) {
	<-ctx.Done()
	if ctx.Err() == context.Canceled {
		*cancelled++
	}
	all.Done()
}

func parkCancel(operations, size int) {
	var all sync.WaitGroup
	cancels := make([]context.CancelFunc, size)
	cancelled := make([]int, size)
	for done := 0; done < operations; done += size {
		all.Add(size)
		for i := range cancels {
			ctx, cancel := context.WithCancel(context.Background())
			cancels[i] = cancel
			go park(ctx, &all, &cancelled[i])
		}
		runtime.Gosched() // now they all wait
		for _, cancel := range cancels {
			cancel()
		}
		all.Wait()
	}
	check(sum(cancelled) == operations, "the number of cancelled waits")
}

func measure(name string, run func(operations, size int), operations, size int) {
	warmUp := operations / size / 10 * size
	if warmUp < size {
		warmUp = size
	}
	run(warmUp, size)
	start := cpuNs()
	run(operations, size)
	fmt.Println(name, (cpuNs()-start)/float64(operations))
}

// ---- many ----

func readMemory(path, label string) float64 {
	text, _ := os.ReadFile(path)
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, label) {
			kib, err := strconv.Atoi(strings.Fields(line)[1])
			check(err == nil, path)
			return 1024 * float64(kib)
		}
	}
	check(false, path)
	return 0
}

type memory struct{ resident, pageTables float64 }

func memoryNow() memory {
	runtime.GC()
	return memory{readMemory("/proc/self/smaps_rollup", "Rss:"), readMemory("/proc/self/status", "VmPTE:")}
}

func printMemory(what string, before memory, count float64) {
	now := memoryNow()
	fmt.Println(what+"_bytes", (now.resident-before.resident)/count)
	fmt.Println(what+"_page_tables", (now.pageTables-before.pageTables)/count)
}

func parkedMemory() {
	var all sync.WaitGroup
	channels := make([]chan int, parked)
	received := make([]int, parked)
	all.Add(parked)
	before := memoryNow()
	for i := range channels {
		channel, received := make(chan int), &received[i]
		channels[i] = channel
		go func() {
			*received = <-channel
			all.Done()
		}()
	}
	runtime.Gosched()
	check(runtime.NumGoroutine() > parked, "the number of parked goroutines")
	printMemory("parked", before, parked)
	for _, channel := range channels {
		channel <- 2
	}
	all.Wait()
	check(sum(received) == 2*parked, "the sum of what was received")
}

func sleep(ctx context.Context, all *sync.WaitGroup, cancelled *int) {
	timer := time.NewTimer(3600 * time.Second)
	select {
	case <-timer.C:
	case <-ctx.Done():
		*cancelled++
	}
	timer.Stop()
	all.Done()
}

func asleep() {
	var all sync.WaitGroup
	cancels := make([]context.CancelFunc, sleepers)
	cancelled := make([]int, sleepers)
	all.Add(sleepers)
	before := memoryNow()
	start := cpuNs()
	for i := range cancels {
		ctx, cancel := context.WithCancel(context.Background())
		cancels[i] = cancel
		go sleep(ctx, &all, &cancelled[i])
	}
	runtime.Gosched()
	fmt.Println("sleepers_start", (cpuNs()-start)/sleepers)
	check(runtime.NumGoroutine() > sleepers, "the number of sleeping goroutines")
	printMemory("sleepers", before, sleepers)
	start = cpuNs()
	for _, cancel := range cancels {
		cancel()
	}
	all.Wait()
	fmt.Println("sleepers_cancel", (cpuNs()-start)/sleepers)
	check(sum(cancelled) == sleepers, "the number of cancelled sleeps")
}

func main() {
	runtime.GOMAXPROCS(1)
	switch strings.Join(os.Args[1:], " ") {
	case "parked":
		parkedMemory()
	case "asleep":
		asleep()
	default:
		measure("yield_accounted", yield, 2000000, 2)
		measure("yield_1000", yield, 2000000, many)
		measure("ring_50000", yield, 2000000, 50000)
		measure("spawn_finish", spawnFinish, 1000000, many)
		measure("await_ready", awaitReady, 2000000, 1)
		measure("await_pending", awaitPending, 1000000, 2)
		measure("park_cancel", parkCancel, 200000, batch)
	}
}
