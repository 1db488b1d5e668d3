# frozen_string_literal: true

require "action_controller" # a host without its railtie has this file all the same

module TaskerCore
  module Dashboard
    # What all pages have in common: who asks, what a browser may do with them, and what is told of an error. They take nothing
    # from the application's layout, helpers and assets, and need no session unless something is done.
    class BaseController < ActionController::Base
      HEADERS = {
        "Cache-Control" => "no-store",
        # One style sheet, of the engine's own; no script at all.
        "Content-Security-Policy" => "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; " \
                                     "frame-ancestors 'none'",
        "X-Frame-Options" => "DENY",
        "X-Content-Type-Options" => "nosniff",
        "Referrer-Policy" => "same-origin"
      }.freeze
      # Of problems that Rails finds before an action begins.
      UNREADABLE = [ActionController::BadRequest, Mime::Type::InvalidMimeType].freeze
      NO_SESSION = "nothing can be done here: this application has no session, without which a form of another site cannot be " \
                   "told from one of ours; use the command line or the API, or add a session store to its middleware"
      # JSON in a field: what is in it may have names that the application keeps out of its log.
      UNLOGGED = /\A(?:input|result)\z/
      # What somebody has written into a field goes back into it as it was.
      FIELDS = %r{<input[^>]*>|<textarea[^>]*>[^<]*</textarea>}
      private_constant :HEADERS, :UNREADABLE, :UNLOGGED, :FIELDS

      layout "tasker_core/dashboard"
      helper PageHelper
      helper_method :permitted?, :sessions?
      # Whatever the application says of its own forms.
      self.allow_forgery_protection = true

      rescue_from StandardError, with: :render_error
      before_action :verify_enabled, :authenticate
      after_action :escape_invisible_characters
      protect_from_forgery with: :exception

      private

      def process_action(*)
        response.headers.merge!(HEADERS)
        request.set_header("action_dispatch.request.formats", [Mime[:html]])
        filters = request.get_header("action_dispatch.parameter_filter")
        request.set_header("action_dispatch.parameter_filter", [*filters, UNLOGGED])
        super
      rescue *UNREADABLE
        render_error(RequestError.new("its address, its body or one of its headers cannot be read"))
      end

      def verify_enabled
        return if TaskerCore.config[:dashboard, :enabled]

        raise UnknownResourceError.new("the pages are turned off: dashboard.enabled is false")
      end

      def authenticate
        @actor = TaskerCore.access.actor(request)
      end

      def authorize(action, resource = :dashboard, record = nil) = TaskerCore.access.verify!(@actor, action, resource, record)

      def permitted?(action, resource, record) = TaskerCore.access.permits?(@actor, action, resource, record)

      # Whether there is something that tells a form of ours from one of another site. Applications that are made for an API
      # have no session.
      def sessions?
        session = request.session
        !session.respond_to?(:enabled?) || session.enabled?
      end

      def handle_unverified_request
        raise RequestError.new("the form is too old, or is none of this site: load its page again, and send it once more")
      end

      def page_size = TaskerCore.config[:dashboard, :page_size]

      # The number after which a page begins, of a path's `after`.
      def after_number(first) = number_of(:after) || first

      # @return [Integer, nil]
      # @raise [ParameterError] when a path has something else of that name
      def number_of(name)
        given = params[name].presence or return
        number = given.to_i if given.is_a?(String) && given.match?(/\A\d{1,19}\z/)
        return number if number && number < 2**63

        raise ParameterError.of(name, given, "must be a number")
      end

      # Whatever a page shows, nothing on it reads differently than it is.
      def escape_invisible_characters
        response.body = Support::VisibleText.page(response.body, except: FIELDS) if response.media_type == "text/html"
      end

      # The page tells of work that has not ended: it is loaded again from time to time.
      def refresh_page
        @refreshed = true
      end

      def render_error(error)
        error = error.cause if error.is_a?(ActionView::Template::Error) && error.cause
        @problem = HTTP::ProblemDetails.new(error)
        @problem.report
        response.headers.merge!(@problem.headers)
        self.response_body = nil
        render "tasker_core/dashboard/problem", status: @problem.status
        escape_invisible_characters
      end
    end
  end
end
