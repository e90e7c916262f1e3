// Holds the token of an invitation. It arrives in the fragment, is taken out of the address bar and
// the history at once, and lives only in this page's memory until its owner presses the button.

class InvitationToken {
  value = $state<string>();

  constructor() {
    this.#take();
    addEventListener("hashchange", () => this.#take());
  }

  #take(): void {
    const token = /^#\/invitation\/([\w-]+)$/.exec(location.hash)?.[1];
    if (token === undefined) return;
    this.value = token;
    history.replaceState(null, "", "#/invitation");
  }
}

export const invitation = new InvitationToken();
