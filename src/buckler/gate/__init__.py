"""May this VM start, resume, arrive? Pure decisions with reasons; talks to no hypervisor and no kernel."""
