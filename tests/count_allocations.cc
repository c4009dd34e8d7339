// Counts the allocations of each thread of a program that it is preloaded into (LD_PRELOAD). Who reads the counts:
// tests/integration/test_allocations.py.
//
// The file that COUNT_ALLOCATIONS names, of any size, is mapped as an array of Slot: one for each thread, in the order
// of their first allocation. It can be read at any time. What C++ allocates comes here through malloc.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

// glibc's own, under the names that nobody replaces.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* memory, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
}

namespace {

struct Slot {
  std::atomic<uint64_t> thread;  // its id; 0: not taken
  std::atomic<uint64_t> calls;   // of malloc, calloc, realloc and those with an alignment
};

Slot* slots = nullptr;  // until it is mapped nothing is counted
size_t slot_count = 0;
std::atomic<size_t> slots_taken{0};
// Not with the default model, which allocates at a thread's first access.
thread_local Slot* mine __attribute__((tls_model("initial-exec"))) = nullptr;

__attribute__((constructor)) void Map() {
  const char* path = std::getenv("COUNT_ALLOCATIONS");
  int fd = path != nullptr ? open(path, O_RDWR | O_CLOEXEC) : -1;
  struct stat file;
  if (fd < 0 || fstat(fd, &file) != 0) std::abort();
  auto size = static_cast<size_t>(file.st_size);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) std::abort();
  close(fd);
  slot_count = size / sizeof(Slot);
  slots = static_cast<Slot*>(memory);
}

void Count() {
  if (slots == nullptr) return;
  if (mine == nullptr) {
    size_t index = slots_taken.fetch_add(1, std::memory_order_relaxed);
    if (index >= slot_count) std::abort();
    mine = &slots[index];
    mine->thread.store(static_cast<uint64_t>(gettid()), std::memory_order_relaxed);
  }
  mine->calls.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

extern "C" {

void* malloc(size_t bytes) {
  Count();
  return __libc_malloc(bytes);
}

void* calloc(size_t count, size_t bytes) {
  Count();
  return __libc_calloc(count, bytes);
}

void* realloc(void* memory, size_t bytes) {
  Count();
  return __libc_realloc(memory, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  Count();
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}

}  // extern "C"
