# frozen_string_literal: true

require "action_controller" # a host without its railtie has this file all the same

module TaskerCore
  # The JSON API. The directory is not called api: applications that have declared API an acronym would look for another constant.
  module V1
    # What all of it has in common: who asks, what for, with what body, and what is told of an error. No session, no cookie;
    # whoever can be made to send a request by another site cannot be made to send JSON.
    class BaseController < ActionController::API
      include Engine.routes.url_helpers

      # Of problems that Rails finds before an action begins.
      UNREADABLE = [ActionController::BadRequest, Mime::Type::InvalidMimeType].freeze
      private_constant :UNREADABLE

      wrap_parameters false
      rescue_from StandardError, with: :render_error
      before_action :forbid_caches, :verify_enabled, :authenticate, :read_body

      private

      # The body is ours to read, up to its limit: neither Rails nor its log have it.
      def process_action(*)
        request.set_header("action_dispatch.request.request_parameters", {})
        super
      rescue *UNREADABLE
        render_error(RequestError.new("its query string or one of its headers cannot be read"))
      end

      # How work stands is told anew each time, and kept by nobody on the way.
      def forbid_caches = response.set_header("Cache-Control", "no-store")

      def verify_enabled
        raise UnknownResourceError.new("the API is turned off: api.enabled is false") unless TaskerCore.config[:api, :enabled]
      end

      def authenticate
        @actor = TaskerCore.access.actor(request)
      end

      def read_body
        @body = request.get? || request.head? ? {} : RequestBody.new(request, limit: TaskerCore.config[:api, :body_bytes]).to_h
      end

      def authorize(action, resource, record = nil) = TaskerCore.access.verify!(@actor, action, resource, record)

      # @return [String] who does it, for the record
      def by = TaskerCore.access.name_of(@actor)

      # All that such a request says is in its body.
      def body(**types)
        query
        Parameters.of_body(@body, **types)
      end

      def query(**types) = Parameters.of_query(request.query_string, **types)

      # The task that the path names, if this may be done to it.
      def task_for(action, resource = :tasks, name: params[:task_id] || params[:id])
        Task.lookup(name).tap { |task| authorize(action, resource, task) }
      end

      def render_json(object, status: :ok) = render(json: JSON.generate(object, max_nesting: 0), status: status)

      # A page of rows, and in it and as a header where the next one is.
      def render_page(name, rows, following, **others)
        response.set_header("Link", "<#{following_url(following)}>; rel=\"next\"") if following
        render_json({ **others, name => rows, next: following })
      end

      # @param found [Array] one more than a page has, where there is one more
      # @yieldparam last [Object] of the page
      # @yieldreturn [Integer] after which the next page begins
      # @return [Array] the page, and where the next one begins, or nil
      def page_of(found, limit)
        rows = found.first(limit)
        [rows, (yield(rows.last) if found.size > limit)]
      end

      def following_url(following)
        pairs = URI.decode_www_form(request.query_string).delete_if { |name, _| name == "after" }
        "#{request.base_url}#{request.path}?#{URI.encode_www_form([*pairs, ['after', following]])}"
      end

      def render_error(error)
        problem = HTTP::ProblemDetails.new(error)
        problem.report
        response.headers.merge!(problem.headers)
        render json: problem.to_json, status: problem.status, content_type: HTTP::ProblemDetails::MEDIA_TYPE
      end
    end
  end
end
