// Hands files to the browser's downloads.

export function saveFile(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  // Some browsers read the file only after the click has returned.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const saveText = (text: string, name: string): void => saveFile(new Blob([text], { type: "text/plain" }), name);
