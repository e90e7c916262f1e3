// A one-time token that arrives in the fragment of a link, `#/<name>/<token>`. It is taken out of the
// address bar and the history at once, and lives only in this page's memory until it is used.
// Make it before the router reads the address.

export class FragmentToken {
  value = $state<string>();
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
    this.#take();
    addEventListener("hashchange", () => this.#take());
  }

  #take(): void {
    const [, name, token] = /^#\/([a-z]+)\/([\w-]+)$/.exec(location.hash) ?? [];
    if (name !== this.#name) return;
    this.value = token;
    history.replaceState(null, "", `#/${name}`);
  }
}
