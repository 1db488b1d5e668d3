# frozen_string_literal: true

require "action_controller" # for hosts without its railtie

module TaskerCore
  # The JSON API. The directory is not called api, as applications that declare the acronym API would autoload another
  # constant.
  module V1
    # The base class of the API: authentication, authorization, parameters, and errors. It uses no session and no
    # cookie, and requires JSON, which a form of another site cannot send.
    class BaseController < ActionController::API
      include Engine.routes.url_helpers
      include HTTP::ReadingRole

      # Errors that Rails raises before an action begins.
      UNREADABLE = [ActionController::BadRequest, Mime::Type::InvalidMimeType].freeze
      private_constant :UNREADABLE

      wrap_parameters false
      rescue_from StandardError, with: :render_error
      before_action :forbid_caches, :verify_enabled, :authenticate, :read_body
      around_action :use_reading_role

      private

      # Keeps the body from Rails' parameters and log: {RequestBody} reads it, up to the limit.
      def process_action(*)
        request.set_header("action_dispatch.request.request_parameters", {})
        super
      rescue *UNREADABLE
        render_error(RequestError.new("its query string or one of its headers cannot be read"))
      end

      # Responses show the current status and must not be cached.
      def forbid_caches = response.set_header("Cache-Control", "no-store")

      def verify_enabled
        return if TaskerCore.config[:api, :enabled]

        raise UnknownResourceError.new("the API is disabled: api.enabled is false")
      end

      def authenticate
        @actor = TaskerCore.access.actor(request)
      end

      def read_body
        return @body = {} if request.get? || request.head?

        @body = RequestBody.new(request, limit: TaskerCore.config[:api, :body_bytes]).to_h
      end

      def authorize(action, resource, record = nil) = TaskerCore.access.verify!(@actor, action, resource, record)

      # @return [String] the actor to record with an action
      def by = TaskerCore.access.name_of(@actor)

      # The parameters of the body. The query string must be empty.
      def body(**types)
        query
        Parameters.of_body(@body, **types)
      end

      def query(**types) = Parameters.of_query(request.query_string, **types)

      # The task in the path, if the action on it is permitted.
      def task_for(action, resource = :tasks, name: params[:task_id] || params[:id])
        Task.lookup(name).tap { |task| authorize(action, resource, task) }
      end

      def render_json(object, status: :ok) = render(json: JSON.generate(object, max_nesting: 0), status: status)

      # Renders a page of rows; `next` and the Link header refer to the next page.
      def render_page(name, rows, following, **others)
        response.set_header("Link", "<#{following_url(following)}>; rel=\"next\"") if following
        render_json({ **others, name => rows, next: following })
      end

      # @param found [Array] the page's rows, and one more if another page follows
      # @yieldparam last [Object] the page's last row
      # @yieldreturn [Integer] the number after which the next page begins
      # @return [Array] the page's rows, and the `after` of the next page or nil
      def page_of(found, limit)
        rows = found.first(limit)
        [rows, (yield(rows.last) if found.size > limit)]
      end

      def following_url(following)
        pairs = URI.decode_www_form(request.query_string).delete_if { |name, _| name.delete_suffix("[]") == "after" }
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
