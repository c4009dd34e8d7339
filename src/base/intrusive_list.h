// IntrusiveList: a first-in first-out list whose links are members of its elements; nothing allocates. Thread-bound.
#pragma once

#include <cstddef>

#include "base/check.h"

namespace ringmain {

// The link. `linked()` tells whether the element is in a list.
template <typename T>
struct ListLink {
  T* next = nullptr;
  T* previous = nullptr;
  bool linked = false;
};

// `Link` is the member of T that this list uses. Elements must be taken out before they are destroyed.
template <typename T, ListLink<T> T::*Link>
class IntrusiveList {
 public:
  bool empty() const { return head_ == nullptr; }
  size_t size() const { return size_; }
  T* front() const { return head_; }  // null when empty

  // REQUIRES: not in a list that uses the same link.
  void PushBack(T& element) {
    ListLink<T>& link = element.*Link;
    RINGMAIN_CHECK(!link.linked);
    link = {nullptr, tail_, true};
    (tail_ != nullptr ? (tail_->*Link).next : head_) = &element;
    tail_ = &element;
    ++size_;
  }
  // Null when empty.
  T* PopFront() {
    T* element = head_;
    if (element != nullptr) Remove(*element);
    return element;
  }
  // Does nothing if the element is not linked. REQUIRES: if linked, then in this list.
  void Remove(T& element) {
    ListLink<T>& link = element.*Link;
    if (!link.linked) return;
    (link.previous != nullptr ? (link.previous->*Link).next : head_) = link.next;
    (link.next != nullptr ? (link.next->*Link).previous : tail_) = link.previous;
    link = {};
    --size_;
  }

 private:
  T* head_ = nullptr;
  T* tail_ = nullptr;
  size_t size_ = 0;
};

}  // namespace ringmain
