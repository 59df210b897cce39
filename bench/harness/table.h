// SPDX-License-Identifier: Apache-2.0

// A table of text, drawn for a terminal or as Markdown. Pure.
#pragma once

#include <string>
#include <vector>

namespace brood::bench {

struct TableRow {
  std::vector<std::string> cells;  // the first is the row's name; missing ones are empty
  std::string instead;             // not empty: a sentence in place of all cells but the first
};

struct Table {
  std::string title;
  std::vector<std::string> header;
  std::vector<TableRow> rows;
  std::vector<std::string> notes;  // below the table
};

// The first column to the left, the others to the right, as wide as they have to be.
std::string DrawForTerminal(const Table& table);
std::string DrawAsMarkdown(const Table& table);

}  // namespace brood::bench
