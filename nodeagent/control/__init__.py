"""The control plane's shell: follows the catalog, keeps certificates, feeds the workers, answers the operator."""
