/** @type {import("@sveltejs/vite-plugin-svelte").SvelteConfig} */
export default {
  compilerOptions: {
    runes: true,
    // The pages are served under a policy without inline styles.
    css: "external",
  },
};
