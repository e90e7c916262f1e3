// Comma-separated values (RFC 4180) that a spreadsheet reads as text and nothing else.

/** One cell. What a spreadsheet would take for a formula gets an apostrophe: names are others' text. */
function cell(text: string): string {
  const tame = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(tame) ? `"${tame.replaceAll('"', '""')}"` : tame;
}

export const csv = (rows: string[][]): string => rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
