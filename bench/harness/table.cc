// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace brood::bench {
namespace {

// In characters, not bytes: cells hold × and ±.
std::size_t Width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string Cell(const std::vector<std::string>& cells, std::size_t column) {
  return column < cells.size() ? cells[column] : "";
}

std::string Escaped(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, "\\");
  }
  return text;
}

}  // namespace

std::string DrawForTerminal(const Table& table) {
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    std::size_t width = Width(table.header[column]);
    for (const TableRow& row : table.rows) {
      if (column > 0 && !row.instead.empty()) continue;
      width = std::max(width, Width(Cell(row.cells, column)));
    }
    widths.push_back(width);
  }
  std::string out = table.title + "\n\n";
  const auto draw = [&](const std::vector<std::string>& cells, const std::string& instead) {
    std::string line = "  ";
    for (std::size_t column = 0; column < widths.size(); ++column) {
      const std::string cell = Cell(cells, column);
      const std::string padding(widths[column] - Width(cell), ' ');
      line +=
          column == 0 ? fmt::format("{}{}", cell, padding) : fmt::format("  {}{}", padding, cell);
      if (column == 0 && !instead.empty()) {
        line += "  " + instead;
        break;
      }
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  draw(table.header, "");
  for (const TableRow& row : table.rows) draw(row.cells, row.instead);
  if (!table.notes.empty()) out += "\n";
  for (const std::string& note : table.notes) out += "  " + note + "\n";
  return out;
}

std::string DrawAsMarkdown(const Table& table) {
  std::string out = "## " + table.title + "\n\n";
  std::string rule = "|";
  out += "|";
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    out += " " + Escaped(table.header[column]) + " |";
    rule += column == 0 ? " --- |" : " ---: |";
  }
  out += "\n" + rule + "\n";
  for (const TableRow& row : table.rows) {
    out += "| " + Escaped(Cell(row.cells, 0)) + " |";
    if (!row.instead.empty()) out += " " + Escaped(row.instead) + " |";
    for (std::size_t column = row.instead.empty() ? 1 : 2; column < table.header.size(); ++column) {
      out += row.instead.empty() ? " " + Escaped(Cell(row.cells, column)) + " |" : " |";
    }
    out += "\n";
  }
  if (!table.notes.empty()) out += "\n";
  for (const std::string& note : table.notes) out += "- " + note + "\n";
  return out;
}

}  // namespace brood::bench
