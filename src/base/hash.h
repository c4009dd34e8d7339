// Hashes that are the same in every process and on every machine: what they decide may have to be decided alike elsewhere, and later.
//
// Nobody is kept from finding inputs that collide: where an attacker chooses the inputs, take another with a secret. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace ringmain {

// Spreads the bits of a number (the finalizer of splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
// A bijection.
constexpr uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// FNV-1a (RFC 9923), spread by Mix.
constexpr uint64_t HashOf(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  return Mix(hash);
}

}  // namespace ringmain
