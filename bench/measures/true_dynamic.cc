// SPDX-License-Identifier: Apache-2.0

// brood-true-dynamic: exits with status 0 and does nothing else, by way of the loader and libc.
int main() { return 0; }
