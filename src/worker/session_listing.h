// SessionListing: where other threads ask a worker for a list of its sessions.
//
// Requests wait in an atomic stack, so that neither side ever waits for the other to leave a lock. The worker makes a list in steps, one
// a loop turn, so that messages go on in between. All memory comes from the thread that asks and goes back to one: the worker allocates
// and frees nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <future>
#include <vector>

#include "base/clock.h"
#include "metrics/session_list.h"
#include "session/sessions.h"

namespace ringmain {

class SessionListing {
 public:
  using Records = std::vector<SessionRecord>;
  // Of a step; about a microsecond each.
  static constexpr uint32_t kSessionsPerTurn = 128;

  SessionListing() = default;
  SessionListing(const SessionListing&) = delete;
  SessionListing& operator=(const SessionListing&) = delete;
  // REQUIRES: no other thread uses it.
  ~SessionListing();

  // ---- Any thread ----

  // Asks for up to `most` sessions; the worker must be woken up then. An answer that is not there at `give_up` need not come any more.
  std::future<Records> Ask(size_t most, TimePoint give_up);

  // ---- The worker's thread ----

  // Takes a step. True if there is more to do: to be called again in the next turn.
  bool Serve(Sessions& sessions, TimePoint now);
  // There are no sessions any more: who waits, and who asks from now on, gets an empty list.
  void Close();

 private:
  struct Request {
    size_t most = 0;
    TimePoint give_up;
    uint32_t next_slot = 0;
    Records records;
    std::promise<Records> answer;
    Request* next = nullptr;
  };

  static bool Push(std::atomic<Request*>& stack, Request* request, const Request* closed);
  static void Free(Request* list);
  void Finish();

  // Written by any thread.
  std::atomic<Request*> waiting_{nullptr};   // &closed_ once closed
  std::atomic<Request*> finished_{nullptr};  // for those who ask next to free

  // The worker thread's own.
  Request* taken_ = nullptr;  // a list; the first is in progress
  Request closed_;
};

}  // namespace ringmain
