# frozen_string_literal: true

module TaskerCore
  module V1
    # Renders a graph in the requested `format`.
    module RendersGraph
      FORMS = {
        "json" => ["application/json", ->(graph) { JSON.generate(graph.to_h) }],
        "mermaid" => ["text/vnd.mermaid", :to_mermaid.to_proc],
        "svg" => ["image/svg+xml", :to_svg.to_proc],
        "text" => ["text/plain", :to_text.to_proc]
      }.freeze
      private_constant :FORMS

      private

      # @yieldreturn [Graph]
      def render_graph
        form = query(format: :text).fetch(:format, "json")
        type, writing = FORMS.fetch(form) do
          raise ParameterError.of(:format, form, "must be one of #{FORMS.keys.join(', ')}")
        end
        # An SVG that is opened as a page of its own must not run scripts.
        response.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
        render body: writing.call(yield), content_type: "#{type}; charset=utf-8"
      end
    end
  end
end
