// Inbox: what other threads know of a worker, and what they leave for it: freshly accepted sockets, and a wake-up.
//
// One per worker, on a cache line of its own (PerWorker); it outlives all workers. Nobody ever waits for anybody: sockets are pushed on a
// lock-free list, release, and the worker takes the whole list, acquire. The wake-up is only that.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/unique_fd.h"
#include "worker/brief_connections.h"
#include "worker/choose_receiver.h"
#include "worker/source_table.h"

namespace ringmain {

class Inbox {
 public:
  // Admitted by every limit: whoever has it owes the releases.
  struct Client {
    UniqueFd socket;
    uint32_t listener = 0;  // WorkerUpdate's number
    uint32_t source = SourceTable::kNone;
  };

  Inbox();
  // Closes what is still in it.
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  // ---- Any thread ----

  WorkerLoad load() const { return {connections_.load(std::memory_order_relaxed), takes_.load(std::memory_order_relaxed)}; }
  const BriefConnections& brief() const { return brief_; }
  // Leaves a client for the worker, counts it in its load, and wakes the worker. False, and `socket` stays as it is, once it is closed.
  bool Offer(UniqueFd& socket, uint32_t listener, uint32_t source);
  // Makes wake_fd() readable.
  void Wake();

  // ---- Its worker ----

  // An eventfd, non-blocking; not valid if there was no file descriptor for it.
  int wake_fd() const { return wake_.get(); }
  // The worker got a connection by itself.
  void AddConnection() { connections_.fetch_add(1, std::memory_order_relaxed); }
  // One of its connections, however it came, is gone.
  void RemoveConnection();
  BriefConnections& brief() { return brief_; }
  // Whether it wants to be offered clients; at first it does not. Some may still come after a change to false.
  void set_takes(bool takes) { takes_.store(takes, std::memory_order_relaxed); }
  // What was left for it, the oldest first.
  std::vector<Client> TakeAll();
  // The same, and nothing can be left any more until Open.
  std::vector<Client> Close();
  // Makes a closed one usable for the next worker. REQUIRES: the one before has ended.
  void Open();

 private:
  struct Node {
    Client client;
    Node* next = nullptr;
  };
  static Node closed_;  // the head of a closed one; never looked into
  static std::vector<Client> Unlink(Node* newest);

  std::atomic<uint32_t> connections_{0};
  std::atomic<bool> takes_{false};
  BriefConnections brief_;
  std::atomic<Node*> newest_{nullptr};
  UniqueFd wake_;
};

}  // namespace ringmain
