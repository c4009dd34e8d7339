#include "worker/inbox.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"

namespace ringmain {

Inbox::Node Inbox::closed_;

Inbox::Inbox() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Inbox::~Inbox() { Close(); }

bool Inbox::Offer(UniqueFd& socket, uint32_t listener, uint32_t source) {
  auto node = std::make_unique<Node>(Node{{std::move(socket), listener, source}});
  AddConnection();  // before the worker can remove it again
  Node* before = newest_.load(std::memory_order_relaxed);
  do {
    if (before == &closed_) {
      socket = std::move(node->client.socket);
      RemoveConnection();
      return false;
    }
    node->next = before;
  } while (!newest_.compare_exchange_weak(before, node.get(), std::memory_order_release, std::memory_order_relaxed));
  static_cast<void>(node.release());  // the worker's now
  // Whoever found the list empty wakes the worker; it takes all that is there when it comes.
  if (before == nullptr) Wake();
  return true;
}

void Inbox::Wake() {
  eventfd_write(wake_.get(), 1);  // only fails when a wake-up is due anyway
}

void Inbox::RemoveConnection() {
  uint32_t before = connections_.fetch_sub(1, std::memory_order_relaxed);
  RINGMAIN_CHECK(before > 0);
}

std::vector<Inbox::Client> Inbox::TakeAll() {
  Node* newest = newest_.load(std::memory_order_relaxed);
  if (newest == nullptr || newest == &closed_) return {};
  return Unlink(newest_.exchange(nullptr, std::memory_order_acquire));
}

std::vector<Inbox::Client> Inbox::Close() { return Unlink(newest_.exchange(&closed_, std::memory_order_acquire)); }

void Inbox::Open() {
  Node* closed = &closed_;
  newest_.compare_exchange_strong(closed, nullptr, std::memory_order_relaxed);
}

std::vector<Inbox::Client> Inbox::Unlink(Node* newest) {
  std::vector<Client> clients;
  while (newest != nullptr && newest != &closed_) {
    std::unique_ptr<Node> node(newest);
    clients.push_back(std::move(node->client));
    newest = node->next;
  }
  std::reverse(clients.begin(), clients.end());
  return clients;
}

}  // namespace ringmain
